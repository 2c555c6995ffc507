from pathlib import Path
from typing import Any

import pytest

from edgecache.errors import StoreError
from edgecache.functions.ledger import Ledger
from edgecache.functions.manifest import Allow, Bind, Manifest, Phase
from edgecache.functions.versions import Change, Deployment, Split, Version
from edgecache.store.functions import FunctionStore, Table, owner_key
from edgecache.wasm.base import Kind
from edgecache.wasm.facts import Facts


@pytest.fixture
def store(tmp_path: Path):
    made = FunctionStore(tmp_path / "state", sync=False)
    yield made
    made.close()


def version(number: int, name: str = "f", **fields: Any) -> Version:
    manifest = Manifest(name=name, bind=(Bind(phase=Phase.HIT, models=("m",)),), allow=Allow(kv=("a",), cache=True))
    return Version(
        **{
            "tenant": "acme",
            "name": name,
            "number": number,
            "digest": f"{number:064x}",
            "artefact": "ab" * 32,
            "kind": Kind.SCRIPT,
            "size": 10,
            "manifest": manifest,
            "created": 12.5,
            "facts": Facts(bytes=10, imports=("a", "b"), memory=65536),
        }
        | fields
    )


def deployment(name: str = "f", *numbers: int) -> Deployment:
    now = Deployment("acme", name, Split(1), 1)
    for number in numbers:
        now = now.changed(Change(1.0, "ann", "deploy", "why", now.split, Split(number)), number)
    return now


def test_what_was_saved_is_loaded_as_it_was(store: FunctionStore) -> None:
    ledger = Ledger(store)
    ledger.save(deployment(), fresh=version(1), first=True)
    ledger.save(deployment("f", 2), fresh=version(2))
    ledger.save(deployment("g"), fresh=version(1, "g"), first=True)
    books = ledger.load()
    assert books.deployments == {("acme", "f"): deployment("f", 2), ("acme", "g"): deployment("g")}
    assert books.versions == {("acme", "f"): {1: version(1), 2: version(2)}, ("acme", "g"): {1: version(1, "g")}}
    assert books.damaged == 0


def test_versions_go_one_by_one_or_with_their_function(store: FunctionStore) -> None:
    ledger = Ledger(store)
    for number in (1, 2, 3):
        ledger.save(deployment(), fresh=version(number))
    ledger.save(deployment("g"), fresh=version(1, "g"))
    ledger.save(deployment(), gone=[1, 2])
    assert list(ledger.load().versions["acme", "f"]) == [3]
    ledger.remove("acme", "f")
    assert set(ledger.load().versions) == set(ledger.load().deployments) == {("acme", "g")}


def test_what_another_function_of_that_name_left_behind_is_not_taken_over(store: FunctionStore) -> None:
    ledger = Ledger(store)
    ledger.save(deployment(), fresh=version(7))
    store.write(lambda txn: txn.delete(Table.DEPLOYMENTS, owner_key("acme", "f")))
    ledger.save(deployment(), fresh=version(1), first=True)
    assert list(ledger.load().versions["acme", "f"]) == [1]


def test_damaged_records_are_counted_and_hide_no_other(store: FunctionStore) -> None:
    ledger = Ledger(store)
    ledger.save(deployment(), fresh=version(1))
    ledger.save(deployment("g"), fresh=version(1, "g"))
    owner = owner_key("acme", "f")
    store.write(lambda txn: txn.put(Table.DEPLOYMENTS, owner, b"\x93not a record"))
    store.write(lambda txn: txn._txn.put(owner + b"x", b"short", db=txn._tables[Table.VERSIONS]))
    books = ledger.load()
    assert books.damaged == 2
    assert books.lost == ("function f of acme",)
    assert set(books.deployments) == {("acme", "g")}
    assert set(books.versions) == {("acme", "f"), ("acme", "g")}
    store.write(lambda txn: txn.drop(Table.VERSIONS, owner))
    assert ledger.load().lost == ("a function without readable versions",)


def test_a_record_that_cannot_be_encoded_changes_nothing(store: FunctionStore) -> None:
    ledger = Ledger(store)
    ledger.save(deployment(), fresh=version(1))
    with pytest.raises(StoreError, match="cannot be encoded"):
        ledger.save(deployment("f", 2), fresh=version(2, message="\ud800"))
    assert ledger.load().deployments["acme", "f"] == deployment()
