"""Where the values of functions lie: which key in LMDB a key of a store becomes. No I/O.

A row's key begins with hashes of tenant, function and store, over lengths and contents: whatever a function calls its
stores and keys, it cannot name what belongs to another.
"""

from hashlib import blake2b
from typing import Final

import msgspec

from edgecache.errors import StoreError
from edgecache.store.functions import OWNER_BYTES, name_key, owner_key

MAX_KEY: Final = 1024
"""Bytes of the longest key, in UTF-8."""
MAX_STORE: Final = 64
"""Bytes of the longest name of a store."""
WHOLE: Final = 447
"""Bytes up to which a key is itself; longer ones end in a hash, because LMDB keys end at 511 bytes."""
_HASH: Final = 32


class KvInvalid(StoreError):
    """A key, value, number or time to live that cannot be; the message says why."""


class Space(msgspec.Struct, frozen=True):
    """One store of one function."""

    tenant: str
    function: str
    store: str = "default"


class Spot(msgspec.Struct, frozen=True):
    """Where one value is: what the rows of its owner begin with, its key in LMDB, its key in full."""

    owner: bytes
    at: bytes
    key: bytes


def text(value: str, what: str, most: int) -> bytes:
    """`value` in UTF-8; raises KvInvalid when it is not Unicode or too long."""
    try:
        data = value.encode()
    except UnicodeEncodeError as error:
        raise KvInvalid(f"{what} must be valid Unicode") from error
    if len(data) > most:
        raise KvInvalid(f"{what} has at most {most} bytes, not {len(data)}")
    return data


def base(space: Space) -> bytes:
    """What the rows of `space` begin with; raises KvInvalid."""
    if not text(space.store, "the name of a store", MAX_STORE):
        raise KvInvalid("the name of a store is empty")
    return owner_key(space.tenant, space.function) + name_key(space.store)


def spot(space: Space, key: str) -> Spot:
    """Where `key` is; raises KvInvalid."""
    data, begin = text(key, "a key", MAX_KEY), base(space)
    if not data:
        raise KvInvalid("a key is empty")
    # Whole keys end at 447 bytes and hashed ones have 479: neither can be the other.
    tail = data if len(data) <= WHOLE else data[:WHOLE] + blake2b(data, digest_size=_HASH).digest()
    return Spot(begin[:OWNER_BYTES], begin + tail, data)
