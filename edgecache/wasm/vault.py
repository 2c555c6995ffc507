"""What is kept of uploads on disk: their bytes, and the machine code made of them, both by digest, none of it trusted.

Machine code runs with the daemon's rights, so it is taken from disk only under a seal: a sidecar that names the code's
digest and carries an HMAC under this POP's own key. What fails that is removed and compiled anew. A file appears under
its name only when it is whole and on disk; names are made of hex digits that are checked here, never of what a client
sent.

Layout: `artefacts/SHA256`, `code/SHA256-FINGERPRINT.cwasm` and `.seal` beside it, `*.tmp` while something is written.
"""

import contextlib
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

import msgspec

from edgecache.errors import ConfigError, Fault, FunctionFault
from edgecache.wasm import child
from edgecache.wasm.base import Kind
from edgecache.wasm.facts import Facts

KEY_BYTES = 32
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DOMAIN = b"edgecache compiled function v1\n"


class Artefact(msgspec.Struct, frozen=True):
    """An upload that was compiled.

    `digest` is the SHA-256 of what was uploaded, `code` its machine code and `sealed` the code's SHA-256, both in hex.
    `extra` is what a kind needs beside the code to run it, `cpu` the s that compiling took, `bytes` the size of the
    machine code.
    """

    digest: str
    kind: Kind
    code: Path
    extra: dict[str, Any]
    facts: Facts
    cpu: float
    bytes: int
    sealed: str


class Sealed(msgspec.Struct, frozen=True):
    """What stands in a sidecar under the HMAC: all of an `Artefact` but where it is."""

    digest: str
    fingerprint: str
    kind: Kind
    extra: dict[str, Any]
    facts: Facts
    cpu: float
    bytes: int = 0
    sealed: str = ""


def digest_of(content: bytes) -> str:
    """The name of `content`: its SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def read_key(path: Path) -> bytes:
    """The key at `path`, made at the first use; raises ConfigError where it cannot be read or others can read it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with contextlib.suppress(FileExistsError):
            _write(path, secrets.token_bytes(KEY_BYTES))
        with _opened(path) as file:
            key, mode = file.read(KEY_BYTES + 1), os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{path}: a key has {KEY_BYTES} bytes, not {len(key)}")
    if mode & 0o077:
        raise ConfigError(f"{path}: others than its owner may read it (chmod 600)")
    return key


class Vault:
    """The folder of one POP. Every method blocks; one process at a time."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self._key = hashlib.blake2b(key, digest_size=KEY_BYTES, person=b"vault").digest()
        folder = folder.resolve()  # those who compile and run have another working directory
        self._artefacts = folder / "artefacts"
        self.code = folder / "code"
        for each in (self._artefacts, self.code):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._tidy()

    def _tidy(self) -> None:
        """Remove what killed processes left: halves of files, code without its seal."""
        for folder in (self._artefacts, self.code):
            for path in folder.glob("*.tmp"):
                path.unlink(missing_ok=True)
        for path in self.code.glob("*.cwasm"):
            if not path.with_suffix(".seal").is_file():
                path.unlink(missing_ok=True)

    def put(self, artefact: bytes) -> str:
        """Keep an upload; its digest. Raises OSError where the disk is full."""
        digest = digest_of(artefact)
        path = self._artefacts / digest
        if not path.is_file():
            _replace(path, artefact)
        return digest

    def get(self, digest: str) -> bytes:
        """The upload with that digest; raises FunctionFault (`load`) if it is gone or altered."""
        try:
            with _opened(self._artefacts / _checked(digest)) as file:
                content = file.read()
        except OSError as error:
            raise FunctionFault(Fault.LOAD, f"the upload {digest[:12]} cannot be read: {error.strerror}") from error
        if digest_of(content) != digest:
            raise FunctionFault(Fault.LOAD, f"the upload {digest[:12]} was altered on disk")
        return content

    def draft(self, digest: str, fingerprint: str) -> Path:
        """A new, empty file beside where that code will be; `seal` gives it its name, `discard` removes it."""
        path = self._named(digest, fingerprint)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
        _write(draft, b"")
        return draft

    def seal(self, draft: Path, about: Sealed) -> Artefact:
        """Take finished code in; `about.sealed` and `about.bytes` are filled in here. Raises OSError."""
        path = self._named(about.digest, about.fingerprint)
        with _opened(draft) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
            os.fsync(file.fileno())
        about = msgspec.structs.replace(about, sealed=found, bytes=size)
        path.with_suffix(".seal").unlink(missing_ok=True)  # at no moment does a seal stand beside another's code
        draft.replace(path)
        content = msgspec.json.encode(about)
        _replace(path.with_suffix(".seal"), self._mac(content).hex().encode() + b"\n" + content)
        return _artefact(path, about)

    def discard(self, draft: Path) -> None:
        """Remove a draft that came to nothing."""
        draft.unlink(missing_ok=True)

    def find(self, digest: str, fingerprint: str) -> Artefact | None:
        """The code made of that upload by that engine, if it is here and whole; what is not is removed."""
        path = self._named(digest, fingerprint)
        about = self._unsealed(path.with_suffix(".seal"))
        if about is not None and (about.digest, about.fingerprint) == (digest, fingerprint):
            artefact = _artefact(path, about)
            with contextlib.suppress(FunctionFault), verified(artefact):
                return artefact
        for each in (path.with_suffix(".seal"), path):
            each.unlink(missing_ok=True)
        return None

    def _unsealed(self, path: Path) -> Sealed | None:
        try:
            with _opened(path) as file:
                mac, _, content = file.read().partition(b"\n")
        except OSError:
            return None
        if not hmac.compare_digest(mac, self._mac(content).hex().encode()):
            return None
        try:
            return msgspec.json.decode(content, type=Sealed)
        except msgspec.ValidationError:  # of an earlier release
            return None

    def _mac(self, content: bytes) -> bytes:
        return hmac.digest(self._key, _DOMAIN + content, "sha256")

    def forget(self, digest: str) -> None:
        """Remove an upload and all code made of it."""
        _checked(digest)
        for path in (*self.code.glob(f"{digest}-*"), self._artefacts / digest):
            path.unlink(missing_ok=True)

    def digests(self) -> frozenset[str]:
        """The uploads that are kept."""
        return frozenset(path.name for path in self._artefacts.iterdir() if _DIGEST.fullmatch(path.name))

    def size(self) -> int:
        """Bytes of all that is kept."""
        return sum(path.stat().st_size for folder in (self._artefacts, self.code) for path in folder.iterdir())

    def _named(self, digest: str, fingerprint: str) -> Path:
        engine = hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
        return self.code / f"{_checked(digest)}-{engine}.cwasm"


@contextlib.contextmanager
def verified(artefact: Artefact) -> Iterator[Path]:
    """A path under which the code can be mapped that was just compared with its seal, however the folder changes.

    Raises FunctionFault (`load`) if it is not what was sealed.
    """
    try:
        file = _opened(artefact.code)
    except OSError as error:
        raise FunctionFault(Fault.LOAD, f"its machine code cannot be read: {error.strerror}") from error
    with file:
        if hashlib.file_digest(file, "sha256").hexdigest() != artefact.sealed:
            raise FunctionFault(Fault.LOAD, "its machine code was altered on disk")
        yield Path(f"/proc/self/fd/{file.fileno()}") if os.path.isdir("/proc/self/fd") else artefact.code  # noqa: PTH112


def copied(artefact: Artefact) -> int:
    """A descriptor of a copy of the code in memory, which was compared with its seal; to be closed.

    For a process that may not read the folder. Raises FunctionFault (`load`) as `verified` does.
    """
    try:
        with _opened(artefact.code) as file:
            content = file.read()
    except OSError as error:
        raise FunctionFault(Fault.LOAD, f"its machine code cannot be read: {error.strerror}") from error
    if digest_of(content) != artefact.sealed:
        raise FunctionFault(Fault.LOAD, "its machine code was altered on disk")
    return child.shown(content)


def _artefact(path: Path, about: Sealed) -> Artefact:
    return Artefact(about.digest, about.kind, path, about.extra, about.facts, about.cpu, about.bytes, about.sealed)


def _checked(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise ValueError("a digest has 64 hex digits")
    return digest


def _opened(path: Path) -> BufferedReader:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def _write(path: Path, content: bytes) -> None:
    """Make a new file, on disk when this returns; raises FileExistsError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, content: bytes) -> None:
    """Put `content` at `path`: all of it, or nothing."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        _write(draft, content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
