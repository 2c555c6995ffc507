import gc
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.errors import Fault, FunctionFault
from edgecache.functions.manifest import Build, Manifest
from edgecache.functions.versions import (
    HISTORY,
    Active,
    Change,
    Deployment,
    Loaded,
    Split,
    Unloadable,
    Version,
    artefact_digest,
    surplus,
    uploaded,
    version_digest,
)
from edgecache.wasm.base import Kind, Limits, Program, Request


def version(number: int, digest: str = "") -> Version:
    return Version(
        tenant="acme",
        name="f",
        number=number,
        digest=digest or f"{number:064x}",
        artefact="00" * 32,
        kind=Kind.CORE,
        size=1,
        manifest=Manifest(name="f"),
        created=1.0,
    )


def loaded(number: int, released: list[Program] | None = None, digest: str = "") -> Loaded:
    return Loaded(version(number, digest), Unloadable(Kind.CORE, "not needed"), (released or []).append)


def active(weight: float, *, canary: str = "c", tenant: str = "acme") -> Active:
    return Active(Deployment(tenant, "f", Split(1, 2, weight), 2), loaded(1), loaded(2, digest=canary))


def history(*steps: tuple[str, Split]) -> Deployment:
    now = Deployment("acme", "f", Split(0), 0)
    before = None
    for what, after in steps:
        now = now.changed(Change(1.0, "", what, "", before, after), max(after.numbers()))  # type: ignore[arg-type]
        before = after
    return now


# ---------------------------------------------------------------------------------------------- names


def test_a_version_is_named_by_artefact_and_manifest_and_nothing_else() -> None:
    artefact, other = artefact_digest(b"code"), artefact_digest(b"other code")
    manifest = Manifest(name="f", variables={"a": "1", "b": "2"})
    digest = version_digest(artefact, manifest)
    assert len(digest) == 64
    assert digest == version_digest(artefact, Manifest(name="f", variables={"b": "2", "a": "1"}, build=Build("make")))
    assert digest != version_digest(other, manifest)
    assert digest != version_digest(artefact, Manifest(name="f", variables={"a": "1"}))


def test_a_version_survives_being_stored() -> None:
    one = version(3)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Version) == one
    assert one.label == "f@3"


# ---------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize(
    ("now", "number", "weight", "after"),
    [
        (None, 1, None, Split(1)),
        (None, 1, 0.1, Split(1)),
        (Split(1), 2, None, Split(2)),
        (Split(1), 2, 0.1, Split(1, 2, 0.1)),
        (Split(1, 2, 0.1), 3, 0.2, Split(1, 3, 0.2)),
        (Split(1, 2, 0.1), 3, None, Split(3)),
        (Split(1, 2, 0.1), 1, 0.5, Split(1)),
        (Split(1, 2, 0.1), 2, 0.5, Split(1, 2, 0.5)),
        (Split(1, 2, 0.1), 2, None, Split(2)),
    ],
)
def test_what_runs_after_an_upload(now, number, weight, after) -> None:
    assert uploaded(now, number, weight) == after


@given(st.sets(st.integers(1, 30), min_size=1), st.integers(1, 10), st.data())
def test_the_oldest_that_do_not_run_are_too_many(numbers, most, data) -> None:
    stable = data.draw(st.sampled_from(sorted(numbers)))
    canary = data.draw(st.one_of(st.none(), st.sampled_from(sorted(numbers))))
    split = Split(stable, canary if canary != stable else None)
    gone = surplus(numbers, split, most)
    kept = numbers - set(gone)
    assert not set(gone) & set(split.numbers())
    assert len(kept) <= max(most, len(split.numbers()))
    assert len(kept) == len(numbers) or len(kept) >= min(most, len(numbers))
    assert all(old < young for old in gone for young in kept - set(split.numbers()))


def test_the_way_back_is_an_undo() -> None:
    steps = [("deploy", Split(1)), ("deploy", Split(2)), ("deploy", Split(2, 3, 0.1)), ("promote", Split(3))]
    assert history(*steps).earlier() == [2, 1]
    assert history(*steps, ("rollback", Split(2))).earlier() == [1]
    assert history(*steps, ("rollback", Split(2)), ("rollback", Split(1))).earlier() == []
    assert history(*steps, ("rollback", Split(2)), ("deploy", Split(4))).earlier() == [2, 1]
    assert history(*steps, ("rollback", Split(1)), ("rollback", Split(3))).earlier() == [2, 1]
    assert history(*steps, ("deploy", Split(3, 4, 0.5)), ("auto_rollback", Split(3))).earlier() == [2, 1]
    assert history(("deploy", Split(1))).earlier() == []


def test_the_way_back_ends_even_if_versions_took_turns() -> None:
    turns = [("deploy", Split(1 + turn % 2)) for turn in range(20)]
    assert history(*turns).earlier() == [1 + turn % 2 for turn in range(18, -1, -1)]


def test_history_is_bounded_and_the_last_number_is_not_forgotten() -> None:
    now = history(("deploy", Split(1)), ("deploy", Split(7)))
    for _ in range(HISTORY + 5):
        now = now.changed(Change(1.0, "", "rollback", "", Split(7), Split(1)), 1)
    assert len(now.history) == HISTORY
    assert now.last == 7


# ---------------------------------------------------------------------------------------------- picking


@given(st.binary(max_size=40), st.floats(0, 1), st.floats(0, 1))
def test_more_weight_only_moves_requests_to_the_canary(sticky: bytes, one: float, other: float) -> None:
    less, more = (active(weight).pick(sticky).version.number for weight in sorted((one, other)))
    assert less <= more
    assert active(one).pick(sticky).version.number == active(one).pick(sticky).version.number


@pytest.mark.parametrize("weight", [0.0, 0.01, 0.1, 0.5, 0.9, 1.0])
def test_the_canary_gets_its_share(weight: float) -> None:
    now = active(weight)
    share = sum(now.pick(b"%d" % key) is now.canary for key in range(5000)) / 5000
    assert abs(share - weight) <= 4 * (weight * (1 - weight) / 5000) ** 0.5


def test_other_canaries_and_other_tenants_get_other_requests() -> None:
    keys = [b"%d" % key for key in range(200)]
    chosen = [
        [now.pick(key) is now.canary for key in keys]
        for now in (active(0.5), active(0.5, canary="d"), active(0.5, tenant="other"))
    ]
    assert chosen[0] != chosen[1] != chosen[2] != chosen[0]


def test_without_a_canary_all_goes_to_the_stable_version() -> None:
    now = Active(Deployment("acme", "f", Split(1), 1), loaded(1))
    assert {now.pick(b"%d" % key) for key in range(20)} == {now.stable}
    left_out = Active(Deployment("acme", "f", Split(1, 2, 1.0), 2), loaded(1), trouble="it cannot be loaded")
    assert left_out.pick(b"x") is left_out.stable


# ---------------------------------------------------------------------------------------------- holding


def test_a_program_is_handed_back_when_nobody_holds_its_version() -> None:
    released: list[Program] = []
    one = Loaded(version(1), program := Unloadable(Kind.CORE, ""), released.append)
    other = one
    del one
    gc.collect()
    assert released == []
    del other
    assert released == [program]


def test_a_program_is_handed_back_once() -> None:
    released: list[Program] = []
    one = Loaded(version(1), Unloadable(Kind.CORE, ""), released.append)
    one.release()
    one.release()
    del one
    gc.collect()
    assert len(released) == 1


def test_who_waits_for_the_last_call_is_told_when_it_has_ended() -> None:
    one, told = loaded(1), []
    one.when_idle(lambda: told.append("at once"))
    one.enter()
    one.enter()
    one.when_idle(lambda: told.append("later"))
    one.leave()
    assert told == ["at once"]
    one.leave()
    assert told == ["at once", "later"]
    one.enter()
    one.leave()
    assert told == ["at once", "later"]


def test_calls_are_counted_in_many_threads() -> None:
    one = loaded(1)

    def work() -> None:
        for _ in range(2000):
            one.enter()
            one.leave()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.calls == 0


def test_what_cannot_be_loaded_says_so_in_every_call() -> None:
    program: Program = Unloadable(Kind.CORE, "its code is gone")
    with pytest.raises(FunctionFault, match="its code is gone") as caught:
        program.run(Request("GET", "/", (), b"", 0, bytes(32)), Limits())
    assert caught.value.fault is Fault.LOAD
    program.close()
