"""Versions and deployments on disk: read at the start, written with every change in one transaction."""

import struct
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from edgecache.errors import StoreCorrupt
from edgecache.functions.versions import Deployment, Version
from edgecache.store.functions import FunctionStore, Table, Txn, decode, encode, owner_key

_NUMBER = struct.Struct(">I")

T = TypeVar("T")
Owner = tuple[str, str]
"""Tenant and name: the identity of a function."""


class Books(msgspec.Struct, frozen=True):
    """All that was kept: functions, the versions of each by number, and how many records could not be read.

    `lost`: in words, the functions whose own record is among the damaged ones.
    """

    deployments: dict[Owner, Deployment]
    versions: dict[Owner, dict[int, Version]]
    damaged: int
    lost: tuple[str, ...] = ()


class Ledger:
    """The records of all functions. Every method blocks."""

    def __init__(self, store: FunctionStore) -> None:
        self._store = store

    def load(self) -> Books:
        """What is kept. A record that is damaged is left out and counted: it hides no other."""
        return self._store.read(_load)

    def save(
        self, deployment: Deployment, *, fresh: Version | None = None, gone: Iterable[int] = (), first: bool = False
    ) -> None:
        """Keep `deployment` as it is now, with its new version, and without those that are `gone`.

        `first`: it was not there before, and versions that are without a deployment are not its own.
        """
        owner = owner_key(deployment.tenant, deployment.name)
        row = encode(deployment)
        version = None if fresh is None else (owner + _NUMBER.pack(fresh.number), encode(fresh))
        keys = [owner + _NUMBER.pack(number) for number in gone]

        def run(txn: Txn) -> None:
            if first:
                txn.drop(Table.VERSIONS, owner)
            txn.put(Table.DEPLOYMENTS, owner, row)
            if version is not None:
                txn.put(Table.VERSIONS, *version)
            for key in keys:
                txn.delete(Table.VERSIONS, key)

        self._store.write(run)

    def remove(self, tenant: str, name: str) -> None:
        """Forget a function with all of its versions."""
        owner = owner_key(tenant, name)

        def run(txn: Txn) -> None:
            txn.delete(Table.DEPLOYMENTS, owner)
            txn.drop(Table.VERSIONS, owner)

        self._store.write(run, frees=True)


def _load(txn: Txn) -> Books:
    deployments, spoilt = _decoded(txn, Table.DEPLOYMENTS, Deployment)
    versions, more = _decoded(txn, Table.VERSIONS, Version)
    known = {owner_key(each.tenant, each.name): f"function {each.name} of {each.tenant}" for each in versions}
    lost = tuple(known.get(key, "a function without readable versions") for key in spoilt)
    by_owner: dict[Owner, dict[int, Version]] = {}
    for version in versions:
        by_owner.setdefault((version.tenant, version.name), {})[version.number] = version
    return Books({(each.tenant, each.name): each for each in deployments}, by_owner, len(spoilt) + len(more), lost)


def _decoded(txn: Txn, table: Table, kind: type[T]) -> tuple[list[T], list[bytes]]:
    """The records of a table, and the keys of those that could not be read."""
    found: list[T] = []
    spoilt: list[bytes] = []
    for key, row in txn.items(table):
        record = _record(row, kind)
        if record is None:
            spoilt.append(key)
        else:
            found.append(record)
    return found, spoilt


def _record(row: bytes | None, kind: type[T]) -> T | None:
    try:
        return None if row is None else decode(row, kind)
    except StoreCorrupt:
        return None
