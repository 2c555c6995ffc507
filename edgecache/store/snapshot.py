"""The vector index as a file, so that a start need not read every vector from LMDB: written atomically, verified.

Layout: magic, length and msgpack of the header (schema, embedder, dimension), then pieces of `scope(16) count(4)
ids rows`, then an empty piece, the number of vectors and a BLAKE2b of everything before it. A snapshot need not be of
one moment: whoever loads it reconciles it with LMDB.
"""

import asyncio
import os
import struct
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from edgecache.errors import StoreCorrupt, StoreError
from edgecache.store.database import translate
from edgecache.store.schema import SCOPE_BYTES
from edgecache.store.vectors import Piece, VectorIndex

SCHEMA = 1
_MAGIC = b"edgecache-index\n"
_LENGTH = struct.Struct("<I")
_PIECE = struct.Struct(f"<{SCOPE_BYTES}sI")
_COUNT = struct.Struct("<Q")
_DIGEST = 32
_CHUNK = 1 << 20


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot is of."""

    schema: int
    embedder: str
    dimension: int


async def save(index: VectorIndex, path: Path, *, embedder: str) -> int:
    """Write the index to `path`, replacing an older snapshot once this one is on disk; the number of vectors.

    Raises StoreError kinds; the older snapshot then stays.
    """
    writer = await asyncio.to_thread(_Writer, path, Header(SCHEMA, embedder, index.dimension))
    try:
        async for pieces in index.pieces():
            await asyncio.to_thread(writer.write, pieces)
        await asyncio.to_thread(writer.finish)
    finally:
        writer.close()
    return writer.count


class _Writer:
    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._temporary = path.with_suffix(".tmp")
        self._digest = blake2b(digest_size=_DIGEST)
        self.count = 0
        packed = msgspec.msgpack.encode(header)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.fdopen(os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
            self._put(_MAGIC + _LENGTH.pack(len(packed)) + packed)
        except OSError as error:
            raise translate(error) from error

    def _put(self, data: Any) -> None:
        self._digest.update(data)
        self._file.write(data)

    def write(self, pieces: list[Piece]) -> None:
        try:
            for scope, ids, rows in pieces:
                if len(ids):
                    self._put(_PIECE.pack(scope, len(ids)))
                    self._put(np.ascontiguousarray(ids).data)
                    self._put(np.ascontiguousarray(rows).data)
                    self.count += len(ids)
        except OSError as error:
            raise translate(error) from error

    def finish(self) -> None:
        try:
            self._put(_PIECE.pack(bytes(SCOPE_BYTES), 0))
            self._put(_COUNT.pack(self.count))
            self._file.write(self._digest.digest())
            self._file.flush()
            os.fsync(self._file.fileno())
            self._temporary.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise translate(error) from error

    def close(self) -> None:
        try:
            self._file.close()
            self._temporary.unlink(missing_ok=True)
        except OSError as error:
            raise translate(error) from error


def load(path: Path, *, embedder: str, dimension: int) -> Iterator[Piece]:
    """The pieces of a snapshot, once the whole file has been verified. Takes time: not for the event loop.

    Raises StoreCorrupt for a damaged file and StoreError for a missing one or one of another schema or embedder.
    """
    try:
        with path.open("rb") as file:
            end = _verify(file)
            file.seek(0)
            header = _header(file)
            if header != Header(SCHEMA, embedder, dimension):
                raise StoreError(f"the snapshot is of {header}")
            yield from _pieces(file, end, dimension)
    except OSError as error:
        raise translate(error) from error


def _verify(file: BinaryIO) -> int:
    """Compare the checksum; where the footer starts."""
    size = os.fstat(file.fileno()).st_size
    left = size - _DIGEST
    digest = blake2b(digest_size=_DIGEST)
    while left > 0 and (chunk := file.read(min(_CHUNK, left))):
        digest.update(chunk)
        left -= len(chunk)
    if left != 0 or file.read() != digest.digest():
        raise StoreCorrupt("the snapshot fails its checksum")
    return size - _DIGEST - _COUNT.size


def _header(file: BinaryIO) -> Header:
    try:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise StoreCorrupt("this is no snapshot")
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        return msgspec.msgpack.decode(file.read(length), type=Header)
    except (msgspec.DecodeError, struct.error) as error:
        raise StoreCorrupt(f"the snapshot has no header: {error}") from error


def _pieces(file: BinaryIO, end: int, dimension: int) -> Iterator[Piece]:
    seen = 0
    try:
        while True:
            scope, count = _PIECE.unpack(file.read(_PIECE.size))
            if not count:
                break
            ids = np.frombuffer(file.read(8 * count), np.int64)
            rows = np.frombuffer(file.read(2 * dimension * count), np.float16).reshape(count, dimension)
            seen += count
            yield scope, ids, rows
        if file.tell() != end or _COUNT.unpack(file.read(_COUNT.size))[0] != seen:
            raise StoreCorrupt("the snapshot does not hold as many vectors as it says")
    except (struct.error, ValueError) as error:
        raise StoreCorrupt(f"the snapshot cannot be read: {error}") from error
