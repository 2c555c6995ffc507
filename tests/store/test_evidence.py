import asyncio
import os
import signal
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import lmdb
import pytest

from edgecache.errors import StoreFull
from edgecache.store import evidence as module
from edgecache.store import rows
from edgecache.store.epochs import Kind, Selector
from edgecache.store.evidence import Evidence
from edgecache.store.rows import Mark, SegmentRow, Serve, Word

CHILD = Path(__file__).parent / "child_evidence.py"
TABLES = (b"segments", b"tracks", b"words", b"marks", b"serves")


def digest(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=32).digest()


def word(entry: str = "e", question: str = "q", *, good: bool = False, tenant: str = "acme", **fields) -> Word:
    return Word(tenant, digest(entry), digest(question), good, **{"origin": "feedback", "at": 1.0} | fields)


def serve(request_id: str = "r", *, tenant: str = "acme", entry: str = "e", question: str = "q", at: float = 1.0):
    return Serve(tenant, request_id, "", "m", digest(entry), digest(question), 0.1, 0.9, at)


def said(evidence: Evidence, entry: str = "e", question: str = "q", tenant: str = "acme") -> bool | None:
    return evidence.word(tenant, digest(entry), digest(question))


def counts(path: Path) -> dict[bytes, int]:
    """Rows of each table of a closed store."""
    env = lmdb.open(str(path), max_dbs=16, readonly=True, lock=False)
    with env.begin() as txn:
        found = {name: txn.stat(env.open_db(name, txn=txn, create=False))["entries"] for name in TABLES}
    env.close()
    return found


async def test_everything_learned_is_there_after_a_restart(open_store, tmp_path: Path) -> None:
    store = open_store()
    evidence = store.evidence
    row, mark = SegmentRow(("acme", "", "m"), b"segment"), Mark("acme", digest("e"), "pin", 7, 1.0)
    given = serve()
    evidence.served(given)
    given.said = False
    await evidence.write(segment=row, track=("acme", digest("e"), b"track"), word=word(note="why"), serve=given)
    await evidence.set_mark(mark)
    await evidence.flush(0.0)
    store.close()
    evidence = open_store().evidence
    assert evidence.segments() == [row]
    assert evidence.tracks([("acme", digest("e")), ("acme", digest("f")), ("else", digest("e"))]) == [
        b"track",
        None,
        None,
    ]
    assert said(evidence) is False
    assert evidence.bad(10) == [word(note="why")]
    assert evidence.serve("acme", "r") == given
    assert evidence.mark(digest("e")) == mark
    assert evidence.marks() == [mark]


@pytest.mark.slow
@pytest.mark.parametrize("acknowledged", [1, 40])
def test_a_kill_loses_nothing_acknowledged(open_store, tmp_path: Path, acknowledged: int) -> None:
    child = subprocess.Popen([sys.executable, CHILD, tmp_path / "store"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(acknowledged)]
    os.kill(child.pid, signal.SIGKILL)
    lines += [line for line in child.stdout.read().splitlines(keepends=True) if line.endswith(".\n")]
    child.wait()
    child.stdout.close()
    last = int(lines[-1].split()[0])
    assert last >= acknowledged
    evidence = open_store().evidence
    for number in range(1, last + 1):
        entry = f"e{number}"
        assert said(evidence, entry, f"q{number}", "t") is (number % 2 == 0)
        assert evidence.tracks([("t", digest(entry))]) == [f"track {number}".encode()]
        assert evidence.mark(digest(entry)).mark == ("ban" if number % 2 else "pin")
        assert evidence.serve("t", f"req{number}") is not None
    assert int(evidence.segments()[0].evidence) >= last


async def test_a_damaged_row_is_dropped_and_counted_and_the_others_stay(open_store, tmp_path: Path, metrics) -> None:
    store = open_store()
    for name in ("a", "b"):
        given = serve(name, entry=name)
        store.evidence.served(given)
        row = SegmentRow(("acme", name, "m"), b"segment")
        await store.evidence.write(segment=row, track=("acme", digest(name), b"t"), word=word(name), serve=given)
        await store.evidence.set_mark(Mark("acme", digest(name), "ban", 1, 1.0))
    store.close()
    env = lmdb.open(str(tmp_path / "store"), max_dbs=16)
    with env.begin(write=True) as txn:
        for name in TABLES:
            table = env.open_db(name, txn=txn)
            cursor = txn.cursor(db=table)
            cursor.first()
            key, row = cursor.key(), cursor.value()
            txn.put(key, row[:-1] + bytes([row[-1] ^ 1]), db=table)
    env.close()
    store = open_store()
    evidence = store.evidence
    assert len(evidence.segments()) == 1
    assert len(evidence.marks()) == 1
    assert sorted([said(evidence, "a") is None, said(evidence, "b") is None]) == [False, True]
    assert sorted([evidence.serve("acme", "a") is None, evidence.serve("acme", "b") is None]) == [False, True]
    assert sorted(evidence.tracks([("acme", digest("a")), ("acme", digest("b"))]), key=bool) == [None, b"t"]
    assert metrics.registry.get_sample_value("edgecache_cache_side_errors_total", {"step": "evidence"}) == 5
    await evidence.flush(0.0)
    store.close()
    assert set(counts(tmp_path / "store").values()) == {1}


async def test_words_decide_on_one_pair_and_the_higher_authority_stands(open_store) -> None:
    evidence = open_store().evidence
    await evidence.write(word=word(good=True, origin="shadow"))
    assert said(evidence) is True
    assert [said(evidence, "q", "e"), said(evidence, "e", "x"), said(evidence, tenant="else")] == [None, None, None]
    assert not evidence.outranked(word(good=False, origin="feedback"))
    await evidence.write(word=word(good=False, origin="operator"))
    assert said(evidence) is False
    assert evidence.outranked(word(good=True, origin="feedback"))
    assert not evidence.outranked(word(good=False, origin="feedback"))
    assert not evidence.outranked(word(good=True, origin="operator"))


async def test_the_latest_bad_pairs_come_first(open_store) -> None:
    evidence = open_store().evidence
    for number, good in enumerate([False, True, False, False]):
        await evidence.write(word=word(f"e{number}", good=good, at=float(number)))
    assert [found.at for found in evidence.bad(2)] == [3.0, 2.0]
    await evidence.write(word=word("e0", at=9.0))
    assert [found.at for found in evidence.bad(9)] == [9.0, 3.0, 2.0]


@pytest.mark.slow
async def test_words_are_bounded_and_what_people_said_goes_last(open_store, tmp_path: Path) -> None:
    store = open_store()
    evidence = store.evidence
    spoken = word("spoken", origin="feedback", at=0.0)
    await evidence.write(word=spoken)
    keys = [rows.pair_key(rows.tenant_key("acme"), digest(str(n)), digest("q")) for n in range(module.MAX_WORDS)]
    evidence._words |= dict.fromkeys(keys, (False, 0))  # as many as there may be, without as many commits
    evidence._automatic |= dict.fromkeys(keys)
    await evidence.write(word=word("new", origin="feedback", at=2.0))
    assert len(evidence._words) == module.MAX_WORDS
    assert said(evidence, "spoken") is False
    assert said(evidence, "new") is False
    assert said(evidence, "0") is None
    assert said(evidence, "2") is False
    store.close()
    assert counts(tmp_path / "store")[b"words"] == 2


async def test_a_request_is_known_by_tenant_and_id_and_the_last_of_an_id_counts(open_store) -> None:
    evidence = open_store().evidence
    evidence.served(serve(entry="a"))
    evidence.served(serve(entry="b"))
    evidence.served(serve(tenant="else", entry="c"))
    assert evidence.serve("acme", "r").entry == digest("b")
    assert evidence.serve("else", "r").entry == digest("c")
    assert evidence.serve("acme", "x") is None
    evidence.served(serve(entry="q"))  # now its own answer
    assert evidence.serve("acme", "r").own


async def test_a_request_that_got_its_own_answer_is_remembered_in_memory_only(open_store) -> None:
    store = open_store()
    store.evidence.served(serve("own", entry="q"))
    store.evidence.served(serve("other"))
    await store.evidence.flush(0.0)
    store.close()
    evidence = open_store().evidence
    assert evidence.serve("acme", "own") is None
    assert evidence.serve("acme", "other") is not None


@pytest.mark.slow
async def test_requests_are_bounded_in_age_and_number_on_disk_too(open_store, tmp_path: Path) -> None:
    store = open_store()
    evidence = store.evidence
    many = module.MAX_SERVES + 3
    for number in range(many):
        evidence.served(serve(str(number), at=float(number)))
        evidence.served(serve(f"own{number}", entry="q", at=float(number)))
    await evidence.flush(0.0)
    assert [evidence.serve("acme", name) is None for name in ("2", "own2", "3", "own3")] == [True, True, False, False]
    await evidence.flush(float(many - 2))
    left = [name for name in range(many - 10, many) if evidence.serve("acme", str(name)) is not None]
    assert left == [many - 2, many - 1]
    evidence.served(serve(str(many - 1), at=float(many)))
    await evidence.flush(0.0)
    store.close()
    assert counts(tmp_path / "store")[b"serves"] == 2
    store = open_store()
    store.evidence.served(serve("after", at=float(many)))
    await store.evidence.flush(0.0)
    assert store.evidence.serve("acme", str(many - 2)) is not None
    store.close()
    assert counts(tmp_path / "store")[b"serves"] == 3


@pytest.mark.slow
async def test_too_many_tracks_go_orphans_first(open_store, make_entry, tmp_path: Path) -> None:
    store = open_store(initial_map_bytes=48 * 1024**2)
    entry = make_entry()
    await store.put(entry, None)
    await store.evidence.write(track=("acme", entry.digest, b"kept"))
    owner = rows.tenant_key("acme")
    with store._db.lock, store._db.env.begin(write=True) as txn:
        for number in range(module.MAX_TRACKS):
            txn.put(rows.digest_key(owner, digest(str(number))), b"row", db=store._db.tracks)
    await store.evidence.write(track=("acme", digest("new"), b"new"))
    assert store.evidence.tracks([("acme", entry.digest)]) == [b"kept"]
    store.close()
    assert counts(tmp_path / "store")[b"tracks"] <= module.MAX_TRACKS


@pytest.mark.parametrize("selector", [Selector(Kind.ALL), Selector(Kind.TENANT, "acme")])
async def test_a_purge_takes_the_evidence_along_but_no_decision(open_store, tmp_path: Path, selector: Selector) -> None:
    store = open_store()
    told: list[str | None] = []
    store.evidence.erased = told.append
    for tenant in ("acme", "else"):
        for given in (serve(tenant=tenant), serve("own", tenant=tenant, entry="q")):
            store.evidence.served(given)
        row, track = SegmentRow((tenant, "", "m"), b"s"), (tenant, digest("e"), b"t")
        await store.evidence.write(segment=row, track=track, word=word(tenant=tenant))
        await store.evidence.set_mark(Mark(tenant, digest(tenant), "ban", 1, 1.0))
    await store.evidence.flush(0.0)
    store.evidence.served(serve("pending"))
    await store.purge(selector)
    everything = selector.kind is Kind.ALL
    assert told == [None if everything else "acme"]
    for _ in range(2):
        evidence = store.evidence
        for tenant in ("acme", "else"):
            gone = everything or tenant == "acme"
            assert (said(evidence, tenant=tenant) is None) is gone
            assert (evidence.serve(tenant, "r") is None) is gone
            assert (evidence.tracks([(tenant, digest("e"))]) == [None]) is gone
        assert evidence.serve("acme", "pending") is None
        assert len(evidence.segments()) == (0 if everything else 1)
        assert len(evidence.marks()) == 2
        await evidence.flush(0.0)
        store.close()
        store = open_store()


async def test_a_purge_of_an_entry_takes_its_track_and_good_words_along_and_leaves_the_bad_ones(
    open_store, make_entry
) -> None:
    store = open_store()
    entries = [make_entry(name) for name in ("one", "two")]
    ids = [await store.put(entry, None) for entry in entries]
    for entry in entries:
        await store.evidence.write(
            track=("acme", entry.digest, b"t"), word=Word("acme", entry.digest, digest("q"), True, "feedback", 1.0)
        )
        await store.evidence.write(word=Word("acme", entry.digest, digest("bad"), False, "feedback", 1.0))
    await store.purge(Selector(Kind.ENTRY, str(ids[0])), soft=True)
    await store.purge(Selector(Kind.TAG, "x"))
    await store.purge(Selector(Kind.TENANT, "acme"), soft=True)
    await store.purge(Selector(Kind.ENTRY, str(ids[1]), "else"))
    assert [store.evidence.word("acme", entry.digest, digest("q")) for entry in entries] == [True, True]
    await store.purge(Selector(Kind.ENTRY, str(ids[0])))
    assert [store.evidence.word("acme", entry.digest, digest("q")) for entry in entries] == [None, True]
    assert store.evidence.tracks([("acme", entry.digest) for entry in entries]) == [None, b"t"]
    assert [store.evidence.word("acme", entry.digest, digest("bad")) for entry in entries] == [False, False]


async def test_replacing_or_evicting_an_entry_keeps_its_evidence(open_store, make_entry) -> None:
    store = open_store()
    entry = make_entry()
    await store.put(entry, None)
    await store.evidence.write(track=("acme", entry.digest, b"t"), word=word())
    again = await store.put(entry, None)
    await store.delete([again])
    assert store.evidence.tracks([("acme", entry.digest)]) == [b"t"]
    assert said(store.evidence) is False


async def test_a_mark_replaces_another_and_can_be_taken_back(open_store) -> None:
    evidence = open_store().evidence
    for name in ("pin", "ban"):
        await evidence.set_mark(Mark("acme", digest("e"), name, 1, 1.0))
    assert [mark.mark for mark in evidence.marks()] == ["ban"]
    await evidence.release(evidence.marks()[0])
    assert evidence.mark(digest("e")) is None


async def test_what_cannot_be_encoded_spoils_no_other_row_and_segments_can_be_removed(open_store, metrics) -> None:
    evidence = open_store().evidence
    kept = [SegmentRow(("acme", name, "m"), b"s") for name in ("a", "b", "\ud800")]
    await evidence.keep_segments(kept)
    assert sorted(row.name[1] for row in evidence.segments()) == ["a", "b"]
    await evidence.keep_segments((), [("acme", "a", "m")])
    assert [row.name[1] for row in evidence.segments()] == ["b"]
    for request_id in ("a", "\ud800", "b"):
        evidence.served(serve(request_id))
    await evidence.flush(0.0)
    assert metrics.registry.get_sample_value("edgecache_cache_side_errors_total", {"step": "evidence"}) == 2


async def test_in_a_full_store_a_bad_pair_holds_at_once_and_a_ban_is_durable(open_store, make_entry) -> None:
    store = open_store(max_bytes=2 * 1024**2)
    with pytest.raises(StoreFull):
        await asyncio.gather(*(store.put(make_entry(str(n), body=bytes(20_000)), None) for n in range(500)))
    with pytest.raises(StoreFull):
        for number in range(10_000):
            await store.evidence.write(word=word(), track=("acme", digest(str(number)), bytes(9000)))
    assert said(store.evidence) is False
    await store.evidence.set_mark(Mark("acme", digest("e"), "ban", 1, 1.0))
    store.close()
    assert open_store(max_bytes=2 * 1024**2).evidence.mark(digest("e")) is not None
