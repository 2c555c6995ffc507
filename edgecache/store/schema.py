"""The bytes of one stored record: fields, body, schema version and checksum. No I/O.

An entry record is `version(1) checksum(8) head length(4) head body`: the head is a msgpack array, the body is the
canonical OpenAI object as it will be sent, never re-encoded on a hit. A vector record is `scope(16) checksum(4) row`,
the row in half precision. Both checksums cover the entry's id too, so a record under a wrong key is noticed.
"""

import struct
import zlib
from hashlib import blake2b

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgecache.errors import StoreCorrupt, StoreError
from edgecache.types import Endpoint, Entry

SCHEMA = 2
READABLE = (1, 2)
"""Versions that are read. Version 1 had neither `writer` nor `held`: its records end two fields earlier."""
SCOPE_BYTES = 16
DIGEST_BYTES = 32

_PREFIX = struct.Struct("<B8sI")
_ID = struct.Struct(">Q")
_CRC = struct.Struct("<I")

Half = NDArray[np.float16]
Single = NDArray[np.float32]


class Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The fields of a record. `since` is the newest purge this answer has seen: any later matching purge voids it."""

    tenant: str
    namespace: str
    model: str
    scope: bytes
    digest: bytes
    text: str | None
    endpoint: Endpoint
    created: float
    expires: float
    finish_reason: str
    max_tokens: int | None
    prompt_tokens: int | None
    completion_tokens: int | None
    tags: tuple[str, ...]
    upstream: str
    since: int
    soft: bool
    writer: str = ""
    held: str = ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Head)


def readable() -> str:
    """The versions that are read, for a message."""
    return " and ".join(map(str, READABLE))


def key_of(entry_id: int) -> bytes:
    """The LMDB key of an entry: big-endian, so that keys sort by age."""
    return _ID.pack(entry_id)


def id_of(key: bytes | memoryview) -> int:
    """The entry id of an LMDB key."""
    return int(_ID.unpack(key)[0])


def name_key(name: bytes) -> bytes:
    """A key for a name of any length: LMDB keys end at 511 bytes."""
    return blake2b(name, digest_size=16).digest()


def head_of(entry: Entry, since: int) -> Head:
    """The fields to store for `entry`; raises StoreError when its scope or digest has the wrong length."""
    if len(entry.scope) != SCOPE_BYTES or len(entry.digest) != DIGEST_BYTES:
        raise StoreError(f"a scope has {SCOPE_BYTES} bytes and a digest {DIGEST_BYTES}")
    return Head(
        tenant=entry.tenant,
        namespace=entry.namespace,
        model=entry.model,
        scope=entry.scope,
        digest=entry.digest,
        text=entry.text,
        endpoint=entry.endpoint,
        created=entry.created,
        expires=entry.expires,
        finish_reason=entry.finish_reason,
        max_tokens=entry.max_tokens,
        prompt_tokens=entry.prompt_tokens,
        completion_tokens=entry.completion_tokens,
        tags=entry.tags,
        upstream=entry.upstream,
        since=since,
        soft=entry.soft_purged,
        writer=entry.writer,
        held=entry.held,
    )


def entry_of(entry_id: int, head: Head, body: bytes, *, soft: bool) -> Entry:
    """The entry that `head` and `body` describe."""
    return Entry(
        tenant=head.tenant,
        namespace=head.namespace,
        model=head.model,
        scope=head.scope,
        digest=head.digest,
        text=head.text,
        endpoint=head.endpoint,
        body=body,
        created=head.created,
        expires=head.expires,
        finish_reason=head.finish_reason,
        max_tokens=head.max_tokens,
        prompt_tokens=head.prompt_tokens,
        completion_tokens=head.completion_tokens,
        tags=head.tags,
        upstream=head.upstream,
        id=entry_id,
        soft_purged=soft or head.soft,
        writer=head.writer,
        held=head.held,
    )


def _sum(entry_id: int, head: bytes | memoryview, body: bytes | memoryview) -> bytes:
    digest = blake2b(_ID.pack(entry_id) + _ID.pack(len(head)), digest_size=8)
    digest.update(head)
    digest.update(body)
    return digest.digest()


def encode(entry_id: int, head: Head, body: bytes) -> bytes:
    """One record; raises StoreError for fields that msgpack cannot carry (lone surrogates, integers over 64 bits)."""
    try:
        packed = _encoder.encode(head)
    except (UnicodeEncodeError, OverflowError) as error:
        raise StoreError(f"the entry cannot be encoded: {error}") from error
    return _PREFIX.pack(SCHEMA, _sum(entry_id, packed, body), len(packed)) + packed + body


def decode(entry_id: int, record: bytes | memoryview) -> tuple[Head, memoryview]:
    """The fields and the body of a record; raises StoreCorrupt for another schema version or any changed bit.

    The body is a view into `record`: copy it while the record is still there.
    """
    head, body, checksum = _split(record)
    if _sum(entry_id, head, body) != checksum:
        raise StoreCorrupt(f"entry {entry_id} fails its checksum")
    return _fields(head), body


def salvage(record: bytes | memoryview) -> Head | None:
    """The fields of a record that failed its checksum, where they can still be read: to find what points at it."""
    try:
        head, _, _ = _split(record)
        return _fields(head)
    except StoreCorrupt:
        return None


def _split(record: bytes | memoryview) -> tuple[memoryview, memoryview, bytes]:
    view = memoryview(record)
    if len(view) < _PREFIX.size:
        raise StoreCorrupt("a record is too short")
    version, checksum, length = _PREFIX.unpack_from(view)
    if version not in READABLE:
        raise StoreCorrupt(f"a record has schema {version}, this program reads {readable()}")
    end = _PREFIX.size + length
    if end > len(view):
        raise StoreCorrupt("a record is too short")
    return view[_PREFIX.size : end], view[end:], checksum


def _fields(head: memoryview) -> Head:
    try:
        return _decoder.decode(head)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreCorrupt(f"a record cannot be decoded: {error}") from error


def half(vector: Single) -> Half:
    """A vector as it is stored."""
    return vector.astype(np.float16)


def encode_vector(entry_id: int, scope: bytes, row: Half) -> bytes:
    """One vector record."""
    payload = row.tobytes()
    return scope + _CRC.pack(_crc(entry_id, scope, payload)) + payload


def decode_vector(entry_id: int, record: bytes | memoryview, dimension: int) -> tuple[bytes, Half]:
    """Scope and row (a view) of a vector record; raises StoreCorrupt for any changed bit or another dimension."""
    view = memoryview(record)
    start = SCOPE_BYTES + _CRC.size
    if len(view) != start + 2 * dimension:
        raise StoreCorrupt(f"the vector of entry {entry_id} has the wrong length")
    scope = bytes(view[:SCOPE_BYTES])
    if _CRC.unpack_from(view, SCOPE_BYTES)[0] != _crc(entry_id, scope, view[start:]):
        raise StoreCorrupt(f"the vector of entry {entry_id} fails its checksum")
    return scope, np.frombuffer(view[start:], dtype=np.float16)


def _crc(entry_id: int, scope: bytes, payload: bytes | memoryview) -> int:
    return zlib.crc32(payload, zlib.crc32(scope, zlib.crc32(_ID.pack(entry_id))))
