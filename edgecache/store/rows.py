"""The rows of evidence as bytes: what was said of a pair, what an operator decided, what a request was given. No I/O.

A row is `checksum(4) payload`; the checksum covers the key too. Keys of all but `serves` begin with a hash of the
tenant, so that a tenant's rows stand together and can be removed together.
"""

import struct
import zlib
from hashlib import blake2b
from typing import Any, Final, Literal, TypeVar

import msgspec

from edgecache.errors import StoreError
from edgecache.store.schema import name_key

Origin = Literal["shadow", "feedback", "operator"]
"""Who said something, in rising order of authority."""
ORIGINS: Final[tuple[Origin, ...]] = ("shadow", "feedback", "operator")
MarkName = Literal["pin", "ban"]
SegmentName = tuple[str, str, str]
"""Tenant, namespace and model."""

_SUM = struct.Struct("<I")
_TENANT_BYTES = 8
_DIGEST_BYTES = 16

T = TypeVar("T")


class Word(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What was said of a pair: whether the answer stored for question `entry` answers `question` (digests of both).

    Equal digests: the word is about the stored answer itself.
    """

    tenant: str
    entry: bytes
    question: bytes
    good: bool
    origin: Origin
    at: float
    note: str = ""

    @property
    def rank(self) -> int:
        """Authority of its origin."""
        return ORIGINS.index(self.origin)


class Mark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An operator's decision on the question with `digest`; `entry_id` is what its answer was called at that time."""

    tenant: str
    digest: bytes
    mark: MarkName
    entry_id: int
    at: float


class Serve(msgspec.Struct, array_like=True, gc=False):
    """What a request was given, for feedback on it; `entry` and `question` are digests, equal for its own answer.

    `risk` is the prior risk of the pair. `said` is the feedback so far, and `lesson` what it changed, so that it can be
    taken back.
    """

    tenant: str
    request_id: str
    namespace: str
    model: str
    entry: bytes
    question: bytes
    risk: float
    similarity: float
    at: float
    said: bool | None = None
    lesson: tuple[float, float, float, float] | None = None
    seq: int = 0

    @property
    def own(self) -> bool:
        """Whether the request got the answer to its own question: stored before, or fresh."""
        return self.entry == self.question


class SegmentRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The evidence of a segment, in whatever form its owner gave it."""

    name: SegmentName
    evidence: bytes


def tenant_key(tenant: str) -> bytes:
    """What the keys of a tenant's rows begin with."""
    return blake2b(tenant.encode("utf-8", "surrogatepass"), digest_size=_TENANT_BYTES).digest()


def digest_key(tenant: bytes, digest: bytes) -> bytes:
    """The key of a track or mark; `tenant` as `tenant_key` has it. `digest_of` is its inverse."""
    return tenant + digest


def digest_of(key: bytes) -> bytes:
    """The entry digest in the key of a track or mark."""
    return key[_TENANT_BYTES:]


def entry_key(tenant: bytes, entry: bytes) -> bytes:
    """What the keys of all words on an entry begin with."""
    return tenant + entry[:_DIGEST_BYTES]


def pair_key(tenant: bytes, entry: bytes, question: bytes) -> bytes:
    """The key of a word."""
    return tenant + entry[:_DIGEST_BYTES] + question[:_DIGEST_BYTES]


def segment_key(name: SegmentName) -> bytes:
    """The key of a segment."""
    return tenant_key(name[0]) + name_key("\0".join(name).encode("utf-8", "surrogatepass"))


def pack(key: bytes, value: Any) -> bytes:
    """The row of `value`, which is bytes or one of the structs above; raises StoreError for lone surrogates."""
    try:
        payload = value if isinstance(value, bytes) else msgspec.msgpack.encode(value)
    except UnicodeEncodeError as error:
        raise StoreError(f"the evidence cannot be encoded: {error}") from error
    return _SUM.pack(zlib.crc32(payload, zlib.crc32(key))) + payload


def payload_of(key: bytes, row: bytes) -> bytes | None:
    """The payload of a row; None if any bit of it has changed."""
    if len(row) < _SUM.size:
        return None
    payload = row[_SUM.size :]
    return payload if _SUM.unpack_from(row)[0] == zlib.crc32(payload, zlib.crc32(key)) else None


def unpack(key: bytes, row: bytes, kind: type[T]) -> T | None:
    """The struct in a row; None if the row is damaged."""
    payload = payload_of(key, row)
    if payload is None:
        return None
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
