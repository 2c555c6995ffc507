"""The rows of the usage ledger: what one request took, as a struct and as bytes. No I/O.

A row is `version(1) checksum(4) payload`; the checksum covers the key too. The payload is msgpack without field names,
which would be two thirds of it. Fields are only ever added at the end, with a default: older rows stay readable.
"""

import struct
import zlib
from operator import attrgetter
from typing import Any, Final

import msgspec

from edgecache.errors import StoreError
from edgecache.types import Attempt

VERSION: Final = 1
LONGEST: Final = 256
"""Characters that are kept of a text in a large record: a client may ask for a model with any name."""

_HEAD = struct.Struct("<BI")
_KEY = struct.Struct(">QI")
_LATEST = 18e9
_LARGE = 4096
"""Bytes of a payload from which on its texts are looked at."""


class Record(msgspec.Struct):
    """One request, or one piece of background work, once it is over. Amounts of money are in USD.

    * `at`: when it came, Unix seconds; `key`: name of its API key (`Tenant.writer`); `model`: the one it asked for;
      `service`, `purpose`: values of `ServiceClass` and `Purpose`
    * `cache`: as `x-edgecache-status`, empty for background work; `collapsed`: it shared another request's answer
    * `outcome`: `ok`; `rejected` (a 4xx answer); `refused` by this POP's limits or broker; `failed`; `stream_cut`;
      `client_gone`; `late` (attempts that were made after the request's own record: not a request of its own)
    * `tier`, `upstream`, `answered`, `price`: where the answer came from, by which model, by which price list
    * `prompt_tokens`, `completion_tokens`, `cached_tokens`: of the answer that was served, from wherever it came;
      `estimated`: they were counted here
    * `avoided_*`: those of them that no upstream read or wrote, since the answer was stored or shared, and what they
      would have cost
    * `cost`: of all `attempts`, those that failed, lost a hedge or were cancelled too
    * `ttft`, `seconds`: to the first byte and to the last, as the client saw it; `tokens_per_second`: after the first
      token, 0 = not known
    """

    at: float
    request_id: str
    tenant: str
    key: str = ""
    endpoint: str = ""
    model: str = ""
    service: str = ""
    purpose: str = "client"
    cache: str = ""
    status: int = 0
    outcome: str = ""
    tier: str = ""
    upstream: str = ""
    answered: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    estimated: bool = False
    avoided_prompt_tokens: int = 0
    avoided_completion_tokens: int = 0
    avoided_cost: float = 0.0
    cost: float = 0.0
    price: str = ""
    ttft: float = 0.0
    seconds: float = 0.0
    tokens_per_second: float = 0.0
    collapsed: bool = False
    attempts: list[Attempt] = []

    @property
    def holders(self) -> tuple[str, ...]:
        """Whose budgets it counts against: the tenant, and its key if it has one; names as in `Allowance.holder`."""
        return (self.tenant, f"{self.tenant}/{self.key}") if self.key else (self.tenant,)


_NAMES = Record.__struct_fields__
_AT = _NAMES.index("attempts")
_PARTS = Attempt.__struct_fields__
_parts = attrgetter(*_PARTS)


def key_of(at: float, number: int) -> bytes:
    """The key of the `number`-th record that came at Unix time `at`: keys are in the order of time."""
    return _KEY.pack(round(min(max(0.0, at), _LATEST) * 1e9), number & 0xFFFFFFFF)


def pack(key: bytes, record: Record) -> bytes:
    """The row of `record`; overlong texts are cut off. Raises StoreError for what msgpack cannot carry."""
    values: list[Any] = list(msgspec.structs.astuple(record))
    values[_AT] = [_parts(attempt) for attempt in record.attempts]
    try:
        payload = _encode(values)
        if len(payload) > _LARGE:
            payload = _encode(_bounded(values))
    except UnicodeEncodeError:
        payload = _encode(_printable(values))
    return _HEAD.pack(VERSION, zlib.crc32(payload, zlib.crc32(key))) + payload


def _encode(values: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(values)
    except (OverflowError, TypeError) as error:
        raise StoreError(f"the record cannot be encoded: {error}") from error


def unpack(key: bytes, row: bytes) -> Record | None:
    """The record in a row; None if any bit of it has changed, or a later program has written it otherwise."""
    if len(row) < _HEAD.size:
        return None
    version, checksum = _HEAD.unpack_from(row)
    payload = row[_HEAD.size :]
    if version != VERSION or checksum != zlib.crc32(payload, zlib.crc32(key)):
        return None
    values = msgspec.msgpack.decode(payload)  # types go unchecked, which takes three times as long: the sum is right
    values[_AT] = [Attempt(*each[: len(_PARTS)]) for each in values[_AT]]
    return Record(*values[: len(_NAMES)])


def _bounded(value: Any) -> Any:
    """Every text cut off where it is too long."""
    if isinstance(value, list | tuple):
        return [_bounded(each) for each in value]
    return value[:LONGEST] if isinstance(value, str) else value


def _printable(value: Any) -> Any:
    """Every text without what UTF-8 cannot carry (lone surrogates): no record is lost for a strange model name."""
    if isinstance(value, list | tuple):
        return [_printable(each) for each in value]
    return value[:LONGEST].encode("utf-8", "replace").decode() if isinstance(value, str) else value
