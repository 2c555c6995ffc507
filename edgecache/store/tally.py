"""How many entries of each writer may serve other wordings, kept in the transactions that change it. Decides nothing.

What counts is an entry with a vector. Entries without a writer are not counted, and a record so damaged that its writer
cannot be read leaves its count behind: a writer then gets fewer entries than the limit allows, never more.
"""

import struct
from typing import Any

import msgspec

from edgecache.store import schema
from edgecache.store.schema import Head

_COUNT = struct.Struct("<Q")


def count(txn: Any, table: Any, head: Head) -> int:
    """How many entries with a vector the writer of `head` has; 0 for no writer."""
    found = txn.get(_key(head), db=table) if head.writer else None
    return int(_COUNT.unpack(found)[0]) if found is not None else 0


def add(txn: Any, table: Any, head: Head, change: int) -> None:
    """Add `change` (1 or -1) to the count of the writer of `head`."""
    if not head.writer:
        return
    total = count(txn, table, head) + change
    if total > 0:
        txn.put(_key(head), _COUNT.pack(total), db=table)
    else:
        txn.delete(_key(head), db=table)


def _key(head: Head) -> bytes:
    return schema.name_key(msgspec.msgpack.encode((head.tenant, head.writer)))
