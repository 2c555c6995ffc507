"""Other caches on the same stream, with the same vectors: those that are a policy, and those that run as themselves.

A cosine cache is one line of policy, so it is played here. GPTCache and vCache's own code run in an environment of
their own, which is made on demand from `bench/quality/peers`: a runner reads one file of questions, sets and vectors,
and prints one JSON line for each request.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from edgecache import config
from edgecache.embed.base import Matrix
from edgecache.errors import EdgeCacheError
from edgecache.quality.datasets import Stream
from edgecache.quality.intervals import Share
from edgecache.quality.stream import Rules

FOLDER: Final = Path(__file__).resolve().parents[2] / "bench" / "quality" / "peers"
HOME: Final = FOLDER.parents[2] / ".venv-peers"

GPTCACHE: Final = {0.8: "gptcache 0.80 (its default)", 0.9: "gptcache 0.90", 0.95: "gptcache 0.95"}
"""Thresholds on its own scale, on which 0.95 is a cosine of 0.90."""
DELTAS: Final = (0.01, 0.02, 0.05)


class PeerError(EdgeCacheError):
    """A peer could not be set up or ended badly; the message says what to do."""


def _cosine(name: str, least: float) -> Rules:
    return Rules(name, config.HitPolicy(policy="similarity", similarity=least), sample=0.0, misses=False)


def policies() -> list[Rules]:
    """The peers that are a policy. None of the fixed ones learns anything."""
    return [
        Rules("exact only", flow="exact"),
        _cosine("cosine 0.90", 0.90),
        _cosine("cosine 0.95", 0.95),
        _cosine("cosine 0.97", 0.97),
        _cosine("redisvl (range query, distance 0.1)", 0.90),
        *(
            Rules(f"vcache by its paper, delta {delta:.0%}", config.HitPolicy(policy="verified", delta=delta), "vcache")
            for delta in DELTAS
        ),
    ]


class PeerPlayed(msgspec.Struct, frozen=True):
    """What a peer did with a stream; `error` says why it did nothing."""

    name: str
    requests: int = 0
    hits: int = 0
    wrong: int = 0
    seconds: float = 0.0
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible, in the form of `stream.Played.to_dict` as far as a peer can say."""
        if self.error:
            return {"name": self.name, "error": self.error}
        return {
            "name": self.name,
            "requests": self.requests,
            "hits": Share(self.hits, self.requests).to_dict(),
            "wrong": Share(self.wrong, self.requests).to_dict(),
            "wrong of hits": Share(self.wrong, self.hits).to_dict(),
            "seconds": round(self.seconds, 1),
        }


def prepare(stream: Stream, vectors: Matrix, file: Path) -> None:
    """Write what a runner reads: an .npz of texts, vectors (one row a text), order of asking and sets."""
    file.parent.mkdir(parents=True, exist_ok=True)
    names = {name: i for i, name in enumerate(dict.fromkeys(stream.sets))}
    np.savez(
        file,
        texts=np.array(stream.texts),
        vectors=vectors,
        asked=np.array(stream.asked, np.int64),
        sets=np.array([names[name] for name in stream.sets], np.int64),
    )


def run(
    peer: str,
    file: Path,
    options: dict[str, Any],
    name: str,
    *,
    home: Path = HOME,
    folder: Path = FOLDER,
    checkout: Path | None = None,
) -> PeerPlayed:
    """Have `peer`, a name in `folder`, play the prepared `file`; environments are kept in `home`.

    A peer that cannot be set up, or fails, says so in `error`. What one without a `checkout` did is kept beside `file`.
    """
    kept = file.with_name(f"{file.stem}-{peer}-{_digest(folder / peer, options)}.json")
    if checkout is None and kept.exists():
        return msgspec.structs.replace(msgspec.json.decode(kept.read_bytes(), type=PeerPlayed), name=name)
    try:
        python = environment(peer, home, folder)
        given = options | ({"checkout": str(checkout.resolve())} if checkout else {})
        found = _played(name, _lines(python, folder / peer / "runner.py", file, given))
    except PeerError as error:
        return PeerPlayed(name, error=error.message)
    kept.write_bytes(msgspec.json.encode(found))
    return found


def _digest(place: Path, options: dict[str, Any]) -> str:
    """Of all that a peer's result depends on beside the prepared file."""
    parts = [json.dumps(options, sort_keys=True).encode()]
    parts += [path.read_bytes() for path in sorted(place.glob("*")) if path.suffix in {".py", ".txt"}]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def environment(peer: str, home: Path, folder: Path = FOLDER) -> Path:
    """The Python of the peer's environment, made with pip from its pinned requirements if it is not there yet."""
    place, wanted = home / peer, folder / peer / "requirements.txt"
    if not wanted.exists():
        raise PeerError(f"{wanted} is not there: peers need a checkout of the repository")
    python, stamp = place / "bin" / "python", place / "requirements.txt"
    if stamp.exists() and stamp.read_bytes() == wanted.read_bytes():
        return python
    try:
        venv.create(place, with_pip=True, clear=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PeerError(f"no environment for {peer} can be made in {place}: {error}") from error
    done = _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(wanted)])
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word from pip"])[-1]
        raise PeerError(f"pip could not install {peer} ({last}); try: {python} -m pip install -r {wanted}")
    shutil.copyfile(wanted, stamp)
    return python


def _lines(python: Path, runner: Path, file: Path, options: dict[str, Any]) -> list[dict[str, Any]]:
    done = _run([str(python), str(runner), str(file.resolve()), json.dumps(options)])
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise PeerError(f"{runner.parent.name} ended with status {done.returncode}: {last}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603
    except OSError as error:
        raise PeerError(f"{command[0]} cannot be run: {error.strerror}; Python {sys.version.split()[0]}") from error


def _played(name: str, lines: list[dict[str, Any]]) -> PeerPlayed:
    """A request is a line `{hit, right}`; the last line is `{seconds}`."""
    if not lines or "seconds" not in lines[-1]:
        raise PeerError(f"{name} printed no result")
    asked = lines[:-1]
    hits = [line for line in asked if line["hit"]]
    return PeerPlayed(name, len(asked), len(hits), sum(not line["right"] for line in hits), lines[-1]["seconds"])
