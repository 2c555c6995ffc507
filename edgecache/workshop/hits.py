"""The calls that a function got on a POP of one's own: kept in `.edgecache/hits.jsonl`, to be made again after a build.

A call can be made again exactly: the clocks and the randomness that it saw are part of it (`wasm.base.Request`).
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edgecache.functions.manifest import Phase
from edgecache.wasm.base import Headers, Request, Response
from edgecache.workshop import compare

_MOST = 50
"""Calls that are kept; the oldest go."""
_LARGEST = 256 * 1024
"""Bytes of a body that is kept."""
_PASSING = ("x-edgecache-request-id", "x-edgecache-age", "x-edgecache-similarity", "x-edgecache-entry")
"""Headers that make no other call of the same question."""


class Hit(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call, and what came of it; `fault` where it failed."""

    phase: Phase
    method: str
    target: str
    headers: Headers
    body: str
    now: int
    seed: str
    status: int = 0
    answer_headers: Headers = ()
    answer: str = ""
    fault: str = ""

    @property
    def request(self) -> Request:
        """The call to make again."""
        return Request(self.method, self.target, self.headers, self.body.encode(), self.now, bytes.fromhex(self.seed))

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two calls the same to a developer."""
        return self.phase, self.target, self.body, tuple(each for each in self.headers if each[0] not in _PASSING)

    @property
    def title(self) -> str:
        """What to call it in a line."""
        said = dict(self.headers)
        who = "".join(
            f" {name}={value}" for name, value in said.items() if name.startswith("x-") and "edge" not in name
        )
        return f"{self.phase} {self.target}{who}"


def of(phase: Phase, request: Request, response: Response | None, fault: str = "") -> Hit | None:
    """The call as it is kept; None for one that is too large, not text, or comes in parts."""
    if len(request.body) > _LARGEST or request.reads:
        return None
    try:
        body = request.body.decode()
    except UnicodeDecodeError:
        return None
    hit = Hit(phase, request.method, request.target, request.headers, body, request.now, request.seed.hex())
    return answered(hit, response, fault)


def answered(hit: Hit, response: Response | None, fault: str = "") -> Hit:
    """`hit` with what has come of it now."""
    if response is None:
        return msgspec.structs.replace(hit, status=0, answer_headers=(), answer="", fault=fault)
    text = response.body.decode("utf-8", "backslashreplace")
    return msgspec.structs.replace(
        hit, status=response.status, answer_headers=response.headers, answer=text, fault=fault
    )


def differences(before: Hit, after: Hit) -> list[str]:
    """What comes of the same call now, beside what came of it before; empty if that is the same."""
    lines = []
    if before.fault != after.fault:
        lines.append(f"fault: {before.fault or 'none'} -> {after.fault or 'none'}")
    if before.status != after.status:
        lines.append(f"status: {before.status} -> {after.status}")
    one, other = dict(before.answer_headers), dict(after.answer_headers)
    lines += [
        f"header {name}: {one.get(name, '-')} -> {other.get(name, '-')}"
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]
    return lines + compare.diff("body", before.answer, after.answer)


class Hits:
    """The kept calls. May be told of calls from any thread."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._kept: dict[tuple[object, ...], Hit] = {}
        self._written = True
        for hit in _read(file):
            self._kept[hit.key] = hit

    def add(self, hit: Hit) -> None:
        """Keep a call in place of an earlier one that is the same."""
        with self._lock:
            self._kept.pop(hit.key, None)
            self._kept[hit.key] = hit
            while len(self._kept) > _MOST:
                del self._kept[next(iter(self._kept))]
            self._written = False

    def all(self) -> tuple[Hit, ...]:
        """Every kept call, the oldest first."""
        with self._lock:
            return tuple(self._kept.values())

    def save(self) -> None:
        """Write the file if anything was added."""
        with self._lock:
            if self._written:
                return
            lines, self._written = [msgspec.json.encode(hit) for hit in self._kept.values()], True
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_suffix(".new")
        draft.write_bytes(b"\n".join([*lines, b""]))
        draft.replace(self._file)


def _read(file: Path) -> Iterator[Hit]:
    """What the file holds; lines of another release are left out."""
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            yield msgspec.json.decode(line, type=Hit)
        except msgspec.DecodeError:
            continue
