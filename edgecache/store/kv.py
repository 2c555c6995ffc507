"""Key-value data of functions: quotas, times to live, atomic changes. Nothing here knows who may.

A value that has expired is gone at once; its row goes with a later write of the same function, or with `sweep`. What a
function takes is counted in the transaction that changes it.
"""

import math
import re
import struct
from functools import partial
from hashlib import blake2b
from typing import Final

import msgspec

from edgecache.clock import Clock
from edgecache.errors import StoreError
from edgecache.store import spaces
from edgecache.store.functions import OWNER_BYTES, FunctionStore, Table, Txn, owner_key
from edgecache.store.spaces import MAX_KEY, WHOLE, KvInvalid, Space, Spot

__all__ = ["KvInvalid", "KvStore", "QuotaExceeded", "Space", "Usage"]

MAX_VALUE: Final = 1024 * 1024
MAX_TTL: Final = 10 * 366 * 86_400.0
"""The longest time to live, s."""
MAX_LISTED: Final = 1000
"""Keys of one listing at most."""

_PASSING: Final = 8
"""Expired rows that a write takes along."""
_CHUNK: Final = 500
"""Rows that one transaction visits or removes."""
_ROW = struct.Struct(">QH")  # µs when it expires or 0, length of the key; then key and value
_USAGE = struct.Struct(">QQ")
_TIME = struct.Struct(">Q")
_NUMBER = re.compile(rb"-?[0-9]{1,19}")
_LEAST, _MOST = -(2**63), 2**63 - 1


class Usage(msgspec.Struct, frozen=True):
    """What the data of a function takes: live keys, and bytes of these keys and their values."""

    keys: int = 0
    bytes: int = 0


class QuotaExceeded(StoreError):
    """A change that would make a function keep more than it may. `what` is `keys`, `bytes` or `value`."""

    def __init__(self, what: str, limit: int, needed: int) -> None:
        noun = {"keys": "keys", "bytes": "bytes of keys and values", "value": "bytes in one value"}[what]
        super().__init__(f"at most {limit} {noun}; this would make {needed}, {needed - limit} too many")
        self.what = what
        self.limit = limit
        self.needed = needed


class _Row(msgspec.Struct, frozen=True):
    """A stored value that has not expired."""

    expires: int
    value: bytes


class KvStore:
    """The data of all functions. Every call blocks, and may be made from any thread; changes are durable on return."""

    def __init__(self, store: FunctionStore, *, clock: Clock, max_bytes: int, max_keys: int) -> None:
        """Args: `max_bytes` and `max_keys` are the quotas of each function, all of its stores together."""
        self._store = store
        self._clock = clock
        self._max = Usage(max_keys, max_bytes)

    # ------------------------------------------------------------------------------------------ reading

    def get(self, space: Space, key: str) -> bytes | None:
        """The value, or None. Raises KvInvalid, StoreCorrupt."""
        spot, now = spaces.spot(space, key), self._now()
        payload = self._store.read(lambda txn: txn.get(Table.KV, spot.at))
        row = None if payload is None else _live(payload, now)
        return None if row is None else row.value

    def exists(self, space: Space, key: str) -> bool:
        """Whether there is a value."""
        spot, now = spaces.spot(space, key), self._now()

        def run(txn: Txn) -> bool:
            payload = txn.peek(Table.KV, spot.at)
            return payload is not None and not _ended(_expires(payload), now)

        return self._store.read(run)

    def keys(self, space: Space, prefix: str = "", limit: int = MAX_LISTED) -> list[str]:
        """The first `limit` keys that begin with `prefix`, in the order of their first 447 bytes."""
        if not 0 <= limit <= MAX_LISTED:
            raise KvInvalid(f"at most {MAX_LISTED} keys are listed at once, not {limit}")
        wanted, now = spaces.text(prefix, "a prefix", MAX_KEY), self._now()
        base = spaces.base(space)
        found: list[str] = []
        start: bytes | None = base + wanted[:WHOLE]
        while start is not None and len(found) < limit:  # in steps: others read and write in between
            step = partial(_listed, base=base, start=start, wanted=wanted, now=now)
            keys, start = self._store.read(step)
            found += [key.decode(errors="replace") for key in keys]
        return found[:limit]

    def usage(self, tenant: str, function: str) -> Usage:
        """What the function's live data takes."""
        owner, now = owner_key(tenant, function), self._now()

        def run(txn: Txn) -> Usage:
            held = _usage(txn, owner)
            for _, at in _expired(txn, owner, now, None):
                held = _less(held, _size(txn.peek(Table.KV, at) or b""))
            return held

        return self._store.read(run)

    # ------------------------------------------------------------------------------------------ changing

    def set(self, space: Space, key: str, value: bytes, ttl: float | None = None) -> None:
        """Store `value`, for `ttl` s or for good. Raises KvInvalid, QuotaExceeded."""
        spot, now = spaces.spot(space, key), self._now()
        expires = _ending(now, ttl)
        _bounded(value)

        def run(txn: Txn) -> None:
            self._current(txn, spot, now)
            self._put(txn, spot, value, expires, now)

        self._store.write(run)

    def delete(self, space: Space, key: str) -> bool:
        """Remove a value; False if there was none."""
        spot, now = spaces.spot(space, key), self._now()

        def run(txn: Txn) -> bool:
            there = self._current(txn, spot, now) is not None
            _remove(txn, spot.owner, spot.at)
            return there

        return self._store.write(run, frees=True)

    def increment(self, space: Space, key: str, delta: int = 1) -> int:
        """Add `delta` to the decimal number under `key`, 0 where there is none; the new number. It keeps its expiry.

        Raises KvInvalid when the value is no number or the new one does not fit 64 bits, QuotaExceeded.
        """
        spot, now = spaces.spot(space, key), self._now()

        def run(txn: Txn) -> int:
            row = self._row(txn, spot, now)
            number = _number(row.value, key) + delta if row else delta
            if not _LEAST <= number <= _MOST:
                raise KvInvalid(f"{key!r} would become {number}, which does not fit 64 bits")
            self._put(txn, spot, b"%d" % number, row.expires if row else 0, now)
            return number

        return self._store.write(run)

    def swap(self, space: Space, key: str, expected: bytes | None, new: bytes, ttl: float | None = None) -> bool:
        """Store `new` if the value is `expected` (None: if there is none), in one step; whether it was."""
        spot, now = spaces.spot(space, key), self._now()
        expires = _ending(now, ttl)
        _bounded(new)

        def run(txn: Txn) -> bool:
            row = self._row(txn, spot, now)
            if (row.value if row else None) != expected:
                return False
            self._put(txn, spot, new, expires, now)
            return True

        return self._store.write(run)

    def sweep(self, limit: int = 10_000) -> int:
        """Remove values of all functions that have expired, `limit` at most; how many were removed."""
        gone, now = 0, self._now()
        while gone < limit:
            count = min(_CHUNK, limit - gone)
            swept = self._store.write(partial(_sweep, now=now, limit=count), frees=True)
            gone += swept
            if swept < count:
                break
        return gone

    def drop(self, tenant: str, function: str) -> None:
        """Remove all that a function keeps."""
        owner = owner_key(tenant, function)
        while self._store.write(lambda txn: _drop(txn, owner), frees=True):
            pass

    # ------------------------------------------------------------------------------------------ in a transaction

    def _now(self) -> int:
        return int(self._clock.now() * 1e6)

    def _current(self, txn: Txn, spot: Spot, now: int) -> memoryview | None:
        """What is at `spot`, unchecked: it may be damaged, and be replaced. Takes some that have expired along."""
        for entry, at in _expired(txn, spot.owner, now, _PASSING):
            _bury(txn, spot.owner, entry, at, now)
        payload = txn.peek(Table.KV, spot.at)
        if payload is not None and _ended(_expires(payload), now):
            _remove(txn, spot.owner, spot.at)
            return None
        return payload

    def _row(self, txn: Txn, spot: Spot, now: int) -> _Row | None:
        self._current(txn, spot, now)
        payload = txn.get(Table.KV, spot.at)
        return None if payload is None else _live(payload, now)

    def _put(self, txn: Txn, spot: Spot, value: bytes, expires: int, now: int) -> None:
        """Replace what is at `spot`, or refuse before anything of it is changed."""
        old = txn.peek(Table.KV, spot.at)
        more = len(spot.key) + len(value) - (0 if old is None else _size(old))
        while over := self._over(_usage(txn, spot.owner), old is None, more):
            late = _expired(txn, spot.owner, now, _CHUNK)
            if not late:
                raise over
            for entry, at in late:
                _bury(txn, spot.owner, entry, at, now)
        if old is not None:
            _remove(txn, spot.owner, spot.at)
        txn.put(Table.KV, spot.at, _ROW.pack(expires, len(spot.key)) + spot.key + value)
        if expires:
            txn.put(Table.EXPIRIES, _expiry(spot.owner, expires, spot.at), spot.at)
        held = _usage(txn, spot.owner)
        _count(txn, spot.owner, Usage(held.keys + 1, held.bytes + len(spot.key) + len(value)))

    def _over(self, held: Usage, fresh: bool, more: int) -> QuotaExceeded | None:  # noqa: FBT001 - private
        """The quota that a change would break. One that makes no more of anything breaks none."""
        if fresh and held.keys + 1 > self._max.keys:
            return QuotaExceeded("keys", self._max.keys, held.keys + 1)
        if more > 0 and held.bytes + more > self._max.bytes:
            return QuotaExceeded("bytes", self._max.bytes, held.bytes + more)
        return None


# ---------------------------------------------------------------------------------------------- values


def _bounded(value: bytes) -> None:
    if len(value) > MAX_VALUE:
        raise QuotaExceeded("value", MAX_VALUE, len(value))


def _ending(now: int, ttl: float | None) -> int:
    if ttl is None:
        return 0
    if not (math.isfinite(ttl) and 0 < ttl <= MAX_TTL):
        raise KvInvalid(f"a time to live is more than 0 and at most {MAX_TTL:.0f} s, not {ttl:g}")
    return now + max(int(ttl * 1e6), 1)


def _number(value: bytes, key: str) -> int:
    if not _NUMBER.fullmatch(value):
        raise KvInvalid(f"the value of {key!r} is not a whole decimal number of 64 bits")
    return int(value)


# ---------------------------------------------------------------------------------------------- rows


def _expires(payload: bytes | memoryview) -> int:
    return int(_ROW.unpack_from(payload)[0]) if len(payload) >= _ROW.size else 0


def _size(payload: bytes | memoryview) -> int:
    """What a row counts for: its key and its value."""
    return max(len(payload) - _ROW.size, 0)


def _ended(expires: int, now: int) -> bool:
    return 0 < expires <= now


def _live(payload: bytes, now: int) -> _Row | None:
    expires, length = _ROW.unpack_from(payload)
    return None if _ended(expires, now) else _Row(expires, payload[_ROW.size + length :])


def _listed(txn: Txn, *, base: bytes, start: bytes, wanted: bytes, now: int) -> tuple[list[bytes], bytes | None]:
    """Keys of some rows from `start` on, and where to go on; None at the end."""
    found: list[bytes] = []
    scan = txn.scan(Table.KV, start)
    prefix = base + wanted[:WHOLE]
    for _ in range(_CHUNK):
        at = scan.key()
        if at is None or not at.startswith(prefix):
            return found, None
        payload = scan.payload()
        if len(payload) >= _ROW.size:
            expires, length = _ROW.unpack_from(payload)
            key = bytes(payload[_ROW.size : _ROW.size + length])
            if not _ended(expires, now) and key.startswith(wanted):
                found.append(key)
        scan.next()
    return found, scan.key()


def _usage(txn: Txn, owner: bytes) -> Usage:
    payload = txn.get(Table.USAGE, owner)
    return Usage() if payload is None else Usage(*_USAGE.unpack(payload))


def _less(held: Usage, size: int) -> Usage:
    return Usage(max(held.keys - 1, 0), max(held.bytes - size, 0))


def _count(txn: Txn, owner: bytes, held: Usage) -> None:
    if held.keys:
        txn.put(Table.USAGE, owner, _USAGE.pack(held.keys, held.bytes))
    else:
        txn.delete(Table.USAGE, owner)


def _remove(txn: Txn, owner: bytes, at: bytes) -> None:
    payload = txn.peek(Table.KV, at)
    if payload is None:
        return
    if expires := _expires(payload):
        txn.delete(Table.EXPIRIES, _expiry(owner, expires, at))
    size = _size(payload)
    txn.delete(Table.KV, at)
    _count(txn, owner, _less(_usage(txn, owner), size))


def _bury(txn: Txn, owner: bytes, entry: bytes, at: bytes, now: int) -> None:
    """Remove a value by its entry among the expiries; where its row was damaged, it may say something else."""
    txn.delete(Table.EXPIRIES, entry)
    payload = txn.peek(Table.KV, at)
    if payload is not None and _ended(_expires(payload), now):
        _remove(txn, owner, at)


def _expiry(owner: bytes, expires: int, at: bytes) -> bytes:
    return owner + _TIME.pack(expires) + blake2b(at, digest_size=16).digest()


def _expired(txn: Txn, owner: bytes, now: int, limit: int | None) -> list[tuple[bytes, bytes]]:
    """Up to `limit` values of a function that have expired: (key in the table of expiries, key of the row)."""
    found: list[tuple[bytes, bytes]] = []
    scan = txn.scan(Table.EXPIRIES, owner)
    while len(found) != limit and (key := scan.key()) is not None and key.startswith(owner):
        if _TIME.unpack_from(key, OWNER_BYTES)[0] > now:
            break
        found.append((key, bytes(scan.payload())))
        scan.next()
    return found


def _sweep(txn: Txn, *, now: int, limit: int) -> int:
    gone = 0
    scan = txn.scan(Table.EXPIRIES, b"")
    while gone < limit and (key := scan.key()) is not None:
        owner = key[:OWNER_BYTES]
        late = _expired(txn, owner, now, limit - gone)
        for entry, at in late:
            _bury(txn, owner, entry, at, now)
        gone += len(late)
        scan = txn.scan(Table.EXPIRIES, owner + b"\xff" * 25)  # the next owner
    return gone


def _drop(txn: Txn, owner: bytes) -> int:
    txn.delete(Table.USAGE, owner)
    return txn.drop(Table.KV, owner, _CHUNK) + txn.drop(Table.EXPIRIES, owner, _CHUNK)
