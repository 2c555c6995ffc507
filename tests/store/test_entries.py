import asyncio
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from edgecache import config
from edgecache.clock import ManualClock
from edgecache.errors import StoreCorrupt, StoreError, StoreFull
from edgecache.store.entries import EntryStore
from edgecache.store.epochs import Kind, Selector
from edgecache.store.schema import key_of
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Endpoint, Entry

VECTOR = np.eye(1, 8, dtype=np.float32)[0]


async def test_a_stored_answer_is_found_by_digest_and_by_id(open_store, make_entry) -> None:
    store = open_store()
    entry = make_entry(tags=("a", "b"), max_tokens=7)
    entry_id = await store.put(entry, None)
    found = store.find(entry.digest)
    assert found == store.get(entry_id)
    assert found == type(entry)(**{name: getattr(entry, name) for name in entry.__slots__} | {"id": entry_id})
    assert store.find(b"?" * 32) is store.get(99) is store.get(0) is store.get(-1) is None


async def test_an_answer_to_the_same_request_replaces_the_old_one(open_store, make_entry) -> None:
    store = open_store()
    old = await store.put(make_entry(), VECTOR)
    new = await store.put(make_entry(body=b"new"), VECTOR)
    assert new > old
    assert store.get(old) is None
    assert store.find(make_entry().digest).body == b"new"
    assert store.stats().entries == store.stats().vectors == 1
    assert store.take_removed() == [(old, make_entry().scope)]
    assert store.take_removed() == []


async def test_a_digest_that_leads_to_another_answer_finds_nothing(open_store, make_entry) -> None:
    store = open_store()
    entry_id = await store.put(make_entry("one"), None)
    with store._db.env.begin(write=True) as txn:
        txn.put(make_entry("two").digest, key_of(entry_id), db=store._db.digests)
    assert store.find(make_entry("two").digest) is None
    assert store.find(make_entry("one").digest) is not None


async def test_expired_answers_are_returned_because_policy_decides(open_store, make_entry) -> None:
    store = open_store()
    await store.put(make_entry(expires=1.0), None)
    assert store.find(make_entry().digest).expires == 1.0


@pytest.mark.parametrize(
    ("selector", "gone"),
    [
        (Selector(Kind.ALL), {"acme plain", "acme tagged", "other tagged"}),
        (Selector(Kind.TENANT, "acme"), {"acme plain", "acme tagged"}),
        (Selector(Kind.NAMESPACE, "docs", "acme"), {"acme plain"}),
        (Selector(Kind.MODEL, "n"), {"other tagged"}),
        (Selector(Kind.TAG, "t"), {"acme tagged", "other tagged"}),
        (Selector(Kind.TAG, "t", "acme"), {"acme tagged"}),
    ],
)
@pytest.mark.parametrize("soft", [False, True])
async def test_a_purge_covers_what_it_names_and_only_that_also_after_a_restart(
    open_store, make_entry, tmp_path, selector, gone, soft
) -> None:
    entries = {
        "acme plain": make_entry("1", namespace="docs"),
        "acme tagged": make_entry("2", tags=("t",)),
        "other tagged": make_entry("3", tenant="other", tags=("t",), model="n"),
    }
    store = open_store()
    for entry in entries.values():
        await store.put(entry, None)
    assert await store.purge(selector, soft=soft) == 4
    store.close()
    store = open_store()
    for name, entry in entries.items():
        found = store.find(entry.digest)
        if soft:
            assert found.soft_purged is (name in gone)
        else:
            assert (found is None) is (name in gone)


async def test_an_answer_in_flight_during_a_purge_is_refused_and_the_next_one_is_not(open_store, make_entry) -> None:
    store = open_store()
    entry = make_entry(tags=("t",))
    token = store.epoch()
    await store.purge(Selector(Kind.TAG, "t"))
    with pytest.raises(StoreError, match="purged") as refused:
        await store.put(entry, None, token=token)
    assert refused.value.code == "purged"
    assert store.find(entry.digest) is None
    await store.put(make_entry("something else"), None, token=token)
    await store.put(entry, None, token=store.epoch())
    assert store.find(entry.digest) is not None


async def test_a_put_queued_before_a_purge_does_not_survive_it(open_store, make_entry) -> None:
    store = open_store()
    token = store.epoch()
    entries = [make_entry(str(number)) for number in range(40)]
    puts = [store.put(entry, None, token=token) for entry in entries]
    outcome = await asyncio.gather(*puts[:20], store.purge(Selector(Kind.ALL)), *puts[20:], return_exceptions=True)
    assert outcome[20] == 21
    assert all(isinstance(result, StoreError) for result in outcome[21:])
    assert not any(store.find(entry.digest) for entry in entries)


async def test_an_answer_in_flight_during_a_soft_purge_is_stored_as_stale(open_store, make_entry) -> None:
    store = open_store()
    token = store.epoch()
    await store.purge(Selector(Kind.ALL), soft=True)
    await store.put(make_entry(), None, token=token)
    assert store.find(make_entry().digest).soft_purged


async def test_one_entry_can_be_purged_hard_or_soft(open_store, make_entry) -> None:
    store = open_store()
    first = await store.put(make_entry("1"), VECTOR)
    second = await store.put(make_entry("2"), VECTOR)
    assert await store.purge(Selector(Kind.ENTRY, str(first), "other")) == 0
    assert await store.purge(Selector(Kind.ENTRY, str(first), "acme")) > second
    assert await store.purge(Selector(Kind.ENTRY, str(second)), soft=True) > second
    assert store.get(first) is None
    assert store.get(second).soft_purged
    assert store.take_removed() == [(first, make_entry().scope)]


async def test_ids_are_never_used_again_also_after_deletes_and_a_restart(open_store, make_entry) -> None:
    store = open_store()
    last = await store.put(make_entry(), None)
    assert await store.delete([last, last + 5, -3]) == 1
    store.close()
    store = open_store()
    assert await store.put(make_entry(), None) > last


async def test_a_flipped_byte_is_not_served_counted_once_and_goes_with_its_digest(
    open_store, make_entry, tmp_path, metrics
) -> None:
    body = b"a needle in the haystack"
    store = open_store()
    entry_id = await store.put(make_entry(body=body), None)
    kept = await store.put(make_entry("another"), None)
    store.close()
    data = (tmp_path / "store" / "data.mdb").read_bytes()
    assert body in data
    (tmp_path / "store" / "data.mdb").write_bytes(data.replace(body, b"A needle in the haystack"))
    store = open_store()
    assert store.find(make_entry().digest) is store.find(make_entry().digest) is store.get(entry_id) is None
    assert store.get(kept) is not None
    assert store.stats().corrupt == 1
    assert metrics.registry.get_sample_value("edgecache_cache_side_errors_total", {"step": "store"}) == 1
    assert store.suspects() == [entry_id]
    await store.delete(store.suspects())
    assert store.suspects() == []
    with store._db.env.begin() as txn:
        assert txn.stat(store._db.digests)["entries"] == 1


async def test_a_full_store_refuses_puts_while_reads_and_purges_go_on(open_store, make_entry, tmp_path) -> None:
    store = open_store(max_bytes=4 * 1024**2)
    entries = [make_entry(str(number), body=bytes(50_000), tags=(f"t{number}",)) for number in range(100)]
    outcomes = await asyncio.gather(*(store.put(entry, VECTOR) for entry in entries), return_exceptions=True)
    stored = [entry for entry, outcome in zip(entries, outcomes, strict=True) if isinstance(outcome, int)]
    assert {type(outcome) for outcome in outcomes} == {int, StoreFull}
    assert store.near_full
    assert store.refused
    assert all(store.find(entry.digest) for entry in stored)
    await store.purge(Selector(Kind.TAG, "t0"))
    assert store.find(stored[0].digest) is None
    assert (tmp_path / "store" / "data.mdb").stat().st_size <= 4 * 1024**2
    stats = store.stats()
    assert stats.used_bytes <= stats.limit_bytes < stats.budget_bytes == 4 * 1024**2


def test_a_full_disk_refuses_puts_while_reads_go_on(tmp_path: Path) -> None:
    code = """
        import asyncio, resource, sys
        from pathlib import Path
        from edgecache import config
        from edgecache.clock import SystemClock
        from edgecache.errors import StoreFull
        from edgecache.store.entries import EntryStore
        from edgecache.telemetry.metrics import Metrics
        from edgecache.types import Endpoint, Entry

        def entry(n):
            return Entry("t", "", "m", bytes(16), n.to_bytes(32, "big"), "q", Endpoint.CHAT, bytes(20000), 1.0, 2.0)

        async def main():
            store = EntryStore(Path(sys.argv[1]), config.Store(), clock=SystemClock(), metrics=Metrics())
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024**2, resource.RLIM_INFINITY))
            n = 0
            try:
                while True:
                    await store.put(entry(n), None)
                    n += 1
            except StoreFull as error:
                print("full", n)
            assert all(store.find(entry(i).digest) for i in range(n)) and store.refused
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            await store.put(entry(n), None)
            store.close()
            print("well")

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), tmp_path], capture_output=True, text=True, check=False
    )
    assert done.stdout.split()[0::2] == ["full", "well"], done.stderr
    assert int(done.stdout.split()[1]) > 10


async def test_what_cannot_be_stored_is_a_store_error_and_the_store_goes_on(open_store, make_entry) -> None:
    store = open_store()
    await store.use_embedder("e", 8)
    for entry, vector in [
        (make_entry(digest=b"short"), None),
        (make_entry(text="\udfff"), None),
        (make_entry(), np.ones(9, np.float32)),
        (make_entry(), np.ones((1, 8), np.float32)),
    ]:
        with pytest.raises(StoreError):
            await store.put(entry, vector)
    assert await store.put(make_entry(), VECTOR) == 1


async def test_a_store_that_was_closed_says_so(open_store, make_entry) -> None:
    store = open_store()
    store.close()
    with pytest.raises(StoreError):
        store.find(make_entry().digest)
    with pytest.raises(StoreError):
        store.stats()
    with pytest.raises(StoreError):
        await store.put(make_entry(), None)


async def test_a_purge_that_cannot_be_read_keeps_the_store_closed(open_store, tmp_path, make_entry) -> None:
    store = open_store()
    await store.purge(Selector(Kind.TAG, "a tag to damage"))
    store.close()
    env = lmdb.open(str(tmp_path / "store"), max_dbs=8)
    with env.begin(write=True) as txn:
        txn.put(b"k", b"garbage", db=env.open_db(b"purges", txn=txn))
    env.close()
    with pytest.raises(StoreCorrupt, match="a purge cannot be read"):
        open_store()


async def test_vectors_come_back_as_they_went_in_and_only_for_the_embedder_in_use(open_store, make_entry) -> None:
    store = open_store()
    with pytest.raises(StoreError, match="no embedder"):
        store.vectors()
    await store.use_embedder("one", 8)
    entry_id = await store.put(make_entry(), VECTOR)
    [[(found, scope, row)]] = list(store.vectors())
    assert (found, scope) == (entry_id, make_entry().scope)
    assert np.array_equal(row, VECTOR)
    assert store.vector_ids().tolist() == [entry_id]
    assert store.embedder() == "one/8"
    assert await store.use_embedder("two", 8)
    assert list(store.vectors()) == []
    assert store.find(make_entry().digest) is not None


async def test_uses_are_counted_fade_and_end_with_the_entry(open_store, make_entry) -> None:
    store = open_store()
    entry_id = await store.put(make_entry(), None)
    for _ in range(5):
        store.touch(entry_id)
    assert store.uses(entry_id) == 5
    store.cool([entry_id, 99])
    assert store.uses(entry_id) == 2
    await store.delete([entry_id])
    assert store.uses(entry_id) == 0


async def test_forgotten_purges_are_gone_after_a_restart_too(open_store, make_entry, clock) -> None:
    store = open_store()
    token = store.epoch()
    await store.purge(Selector(Kind.TAG, "t"))
    clock.advance(10)
    assert await store.forget_purges(store.epoch(), clock.now()) == 0
    assert await store.forget_purges(store.epoch() + 1, clock.now()) == 1
    assert store.stats().purges == 0
    store.close()
    store = open_store()
    assert store.stats().purges == 0
    with pytest.raises(StoreError, match="purged"):
        await store.put(make_entry(tags=("t",)), None, token=token)


TENANTS = st.sampled_from(["acme", "other"])
QUESTIONS = st.sampled_from(["q0", "q1", "q2"])
TAGS = st.sets(st.sampled_from(["t1", "t2"]), max_size=2).map(lambda tags: tuple(sorted(tags)))
SELECTORS = st.one_of(
    st.just(Selector(Kind.ALL)),
    TENANTS.map(lambda tenant: Selector(Kind.TENANT, tenant)),
    st.builds(Selector, st.just(Kind.NAMESPACE), st.sampled_from(["", "docs"]), st.none() | TENANTS),
    st.builds(Selector, st.just(Kind.MODEL), st.sampled_from(["m", "n"]), st.none() | TENANTS),
    st.builds(Selector, st.just(Kind.TAG), st.sampled_from(["t1", "t2"]), st.none() | TENANTS),
)


def matches(selector: Selector, entry: Entry) -> bool:
    """What a selector means, told in another way than the code tells it."""
    if selector.kind is Kind.TENANT:
        return entry.tenant == selector.value
    if selector.tenant not in (None, entry.tenant):
        return False
    values = {Kind.NAMESPACE: [entry.namespace], Kind.MODEL: [entry.model], Kind.TAG: entry.tags}
    return selector.kind is Kind.ALL or selector.value in values[selector.kind]


class StoreModel(RuleBasedStateMachine):
    """The store against a dict and a list of purges, through puts, purges, deletes and restarts."""

    tokens: Bundle[int] = Bundle("tokens")

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.clock = ManualClock()
        self.held: dict[bytes, tuple[Entry, int, bool]] = {}
        self.purges: list[tuple[int, Selector, bool]] = []
        self.since: dict[int, int] = {}
        self.last = 0
        self.open()

    def open(self) -> None:
        settings = config.Store(sync=False, initial_map_bytes=1024**2)
        self.store = EntryStore(self.folder, settings, clock=self.clock, metrics=Metrics())

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @rule(target=tokens)
    def start_a_fill(self) -> int:
        return self.store.epoch()

    def covered(self, entry: Entry, since: int, *, soft: bool) -> bool:
        return any(kind is soft and epoch > since and matches(s, entry) for epoch, s, kind in self.purges)

    @rule(
        tenant=TENANTS,
        question=QUESTIONS,
        namespace=st.sampled_from(["", "docs"]),
        model=st.sampled_from(["m", "n"]),
        tags=TAGS,
        token=st.none() | tokens,
        expires=st.sampled_from([1.0, 2e9]),
        vector=st.booleans(),
    )
    def put(self, tenant, question, namespace, model, tags, token, expires, vector) -> None:
        digest = f"{tenant}/{question}".encode().ljust(32)
        entry = Entry(
            tenant, namespace, model, b"s" * 16, digest, question, Endpoint.CHAT, b"{}", 1.0, expires, tags=tags
        )
        try:
            entry_id = self.run(self.store.put(entry, VECTOR if vector else None, token=token))
        except StoreError:
            assert token is not None
            assert self.covered(entry, token, soft=False)
            return
        assert entry_id > self.last
        self.last = entry_id
        since = entry_id if token is None else token
        assert not self.covered(entry, since, soft=False)
        self.held[digest] = (entry, entry_id, False)
        self.since[entry_id] = since

    @rule(selector=SELECTORS, soft=st.booleans())
    def purge(self, selector: Selector, soft: bool) -> None:
        epoch = self.run(self.store.purge(selector, soft=soft))
        assert epoch > self.last
        self.last = epoch
        self.purges.append((epoch, selector, soft))

    @rule(digest=st.builds("{}/{}".format, TENANTS, QUESTIONS), soft=st.booleans(), tenant=st.none() | TENANTS)
    def purge_one(self, digest: str, soft: bool, tenant: str | None) -> None:
        held = self.held.get(digest.encode().ljust(32))
        if held is None:
            return
        entry, entry_id, _ = held
        epoch = self.run(self.store.purge(Selector(Kind.ENTRY, str(entry_id), tenant), soft=soft))
        if tenant not in (None, entry.tenant):
            assert epoch == 0
            return
        self.last = epoch
        if soft:
            self.held[entry.digest] = (entry, entry_id, True)
        else:
            del self.held[entry.digest]

    @rule(digest=st.builds("{}/{}".format, TENANTS, QUESTIONS))
    def delete(self, digest: str) -> None:
        held = self.held.pop(digest.encode().ljust(32), None)
        if held is not None:
            assert self.run(self.store.delete([held[1]])) == 1

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.open()

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        if not hasattr(self, "store"):
            return
        assert self.store.epoch() == self.last
        assert self.store.stats().entries == len(self.held)
        for tenant in ("acme", "other"):
            for question in ("q0", "q1", "q2"):
                digest = f"{tenant}/{question}".encode().ljust(32)
                found = self.store.find(digest)
                if digest not in self.held:
                    assert found is None
                    continue
                entry, entry_id, stale = self.held[digest]
                since = self.since[entry_id]
                if self.covered(entry, since, soft=False):
                    assert found is None
                    assert self.store.get(entry_id) is None
                else:
                    assert found == self.store.get(entry_id)
                    assert (found.id, found.tenant, found.tags) == (entry_id, entry.tenant, entry.tags)
                    assert found.soft_purged == (stale or self.covered(entry, since, soft=True))

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.runner.close()
            self.temporary.cleanup()


StoreModel.TestCase.settings = hypothesis_settings(max_examples=30, stateful_step_count=25, deadline=None)
test_the_store_behaves_like_a_dict_with_purges = StoreModel.TestCase
