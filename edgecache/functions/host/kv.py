"""`kv.*`: what a function keeps between its calls. Quotas, times to live and atomic changes are `store.kv`'s part."""

from collections.abc import Iterable, Mapping

from edgecache.functions.host.calling import Calling, Operation, text
from edgecache.store.kv import Space
from edgecache.wasm.hostcalls import Code, HostRefused

_BOOL = {True: b"1", False: b"0"}
_DIGITS = 20
"""More make no number that is kept."""


def _open(calling: Calling, fields: list[bytes]) -> Iterable[bytes]:
    _space(calling, fields[0])
    return ()


def _get(calling: Calling, fields: list[bytes]) -> Iterable[bytes]:
    value = calling.services.kv.get(_space(calling, fields[0]), text(fields[1]))
    return () if value is None else (value,)


def _set(calling: Calling, fields: list[bytes]) -> Iterable[bytes]:
    store, key, value, *ttl = fields
    calling.services.kv.set(_space(calling, store, effect=True), text(key), value, _ttl(ttl))
    return ()


def _delete(calling: Calling, fields: list[bytes]) -> Iterable[bytes]:
    calling.services.kv.delete(_space(calling, fields[0], effect=True), text(fields[1]))
    return ()


def _exists(calling: Calling, fields: list[bytes]) -> Iterable[bytes]:
    return (_BOOL[calling.services.kv.exists(_space(calling, fields[0]), text(fields[1]))],)


def _keys(calling: Calling, fields: list[bytes]) -> Iterable[bytes]:
    store, *prefix = fields
    found = calling.services.kv.keys(_space(calling, store), text(prefix[0]) if prefix else "")
    return [key.encode() for key in found]


def _increment(calling: Calling, fields: list[bytes]) -> Iterable[bytes]:
    store, key, delta = fields
    space = _space(calling, store, effect=True)
    return (b"%d" % calling.services.kv.increment(space, text(key), _whole(delta)),)


def _swap(calling: Calling, fields: list[bytes]) -> Iterable[bytes]:
    store, key, how, expected, new, *ttl = fields
    if how not in {b"=", b"-"}:
        raise HostRefused(Code.INVALID, "kv.swap expects `=` and a value, or `-`")
    space = _space(calling, store, effect=True)
    swapped = calling.services.kv.swap(space, text(key), expected if how == b"=" else None, new, _ttl(ttl))
    return (_BOOL[swapped],)


def _space(calling: Calling, store: bytes, *, effect: bool = False) -> Space:
    """The store that is named, if it is granted."""
    name = text(store)
    calling.about(name, effect=effect)
    calling.grants.store(name)
    return Space(calling.version.tenant, calling.version.name, name)


def _ttl(said: list[bytes]) -> float | None:
    if not said or not said[0]:
        return None
    try:
        return float(said[0])
    except ValueError as error:
        raise HostRefused(Code.INVALID, f"a time to live is a number of seconds, not {said[0][:40]!r}") from error


def _whole(said: bytes) -> int:
    digits = said[1:] if said[:1] in {b"-", b"+"} else said
    if not digits.isdigit() or len(digits) > _DIGITS:
        raise HostRefused(Code.INVALID, f"a delta is a whole number of 64 bits, not {said[:40]!r}")
    return int(said)


OPERATIONS: Mapping[str, Operation] = {
    "kv.open": Operation(_open, "store", 1, 1),
    "kv.get": Operation(_get, "store, key", 2, 2),
    "kv.set": Operation(_set, "store, key, value[, seconds to live]", 3, 4),
    "kv.delete": Operation(_delete, "store, key", 2, 2),
    "kv.exists": Operation(_exists, "store, key", 2, 2),
    "kv.keys": Operation(_keys, "store[, prefix]", 1, 2),
    "kv.increment": Operation(_increment, "store, key, delta", 3, 3),
    "kv.swap": Operation(_swap, "store, key, `=` or `-`, expected, new[, seconds to live]", 5, 6),
}
