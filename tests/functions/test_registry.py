import asyncio
import base64
import gc
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecache.errors import (
    BadRequest,
    ConfigError,
    Fault,
    FunctionFault,
    FunctionRefused,
    NotFound,
    StoreCorrupt,
    StoreError,
)
from edgecache.functions.journal import Filter
from edgecache.functions.manifest import Allow, Bind, Manifest, Phase, Quotas
from edgecache.functions.registry import MAX_FUNCTIONS, Registry
from edgecache.functions.signature import public_text, sign
from edgecache.functions.versions import Active, Loaded, Split, artefact_digest
from edgecache.store.functions import Table, owner_key
from edgecache.store.kv import Space, Usage
from edgecache.wasm.base import Limits, Request

LIMITS = Limits()
OWNER = ("acme", "greet")
CALLS_HOST = '(import "edgecache" "call" (func $call (param i32 i32 i32 i32) (result i64)))'
ASKS = "(drop (call $call (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 0)))"
TRAPS = "unreachable"


def manifest(name: str = "greet", **fields: Any) -> Manifest:
    return Manifest(name=name, bind=(Bind(phase=Phase.HIT),), **fields)


def request() -> Request:
    return Request("POST", "/v1/chat/completions", (("x-edgecache-phase", "hit"),), b"{}", 10**18, bytes(32))


def say(loaded: Loaded, host: Any = None) -> str:
    loaded.enter()
    try:
        return loaded.program.run(request(), LIMITS, host).body.decode()
    finally:
        loaded.leave()


def active(registry: Registry, owner: tuple[str, str] = OWNER) -> Active:
    found = registry.running(*owner)
    assert found is not None
    return found


def answers(registry: Registry) -> str:
    return say(active(registry).stable)


def fail(registry: Registry, loaded: Loaded, times: int) -> None:
    for _ in range(times):
        registry.observe(loaded, False)


class Gate:
    """A host that keeps a call waiting until it is let through."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def call(self, _op: str, _argument: bytes) -> bytes:
        self.reached.set()
        assert self.open.wait(30)
        return b"="


async def deployed(home: Any, guest: Any, *texts: str, **more: Any) -> Registry:
    """A registry with one version of `greet` per text."""
    registry = await home.start(**more)
    for text in texts:
        await registry.deploy("acme", manifest(), guest(text), message=f"says {text}", author="ann")
        home.clock.advance(1)
    return registry


# ---------------------------------------------------------------------------------------------- deploying


async def test_the_first_version_runs_at_once_and_says_what_it_is(home, guest) -> None:
    registry = await home.start()
    assert registry.active() == ()
    wasm = guest("one")
    version = await registry.deploy("acme", manifest(), wasm, canary=0.1, message="first\x1b[31m", author="ann")
    assert (version.number, version.tenant, version.name, version.kind) == (1, "acme", "greet", "core")
    assert version.artefact == artefact_digest(wasm)
    assert (version.size, version.created, version.author) == (len(wasm), home.clock.now(), "ann")
    assert version.message == r"first\x1b[31m"
    assert version.code > 0
    assert version.facts.exports == ("memory", "alloc", "handle")
    assert version.warning == ""
    assert active(registry).deployment.split == Split(1)
    assert answers(registry) == "one"
    assert home.deploys("deploy", "ok") == 1
    assert home.metrics.function_code.labels(*OWNER)._value.get() == version.code


async def test_a_further_version_takes_over_and_the_one_before_is_closed_when_nobody_holds_it(home, guest) -> None:
    registry = await deployed(home, guest, "one")
    held, generation = active(registry), registry.generation
    second = await registry.deploy("acme", manifest(), guest("two"))
    assert second.number == 2
    assert registry.generation > generation
    assert answers(registry) == "two"
    await home.settled()
    assert home.closed == []
    assert say(held.stable) == "one"  # whoever still holds the old snapshot can call it
    old = held.stable.program
    del held
    await home.settled()
    assert home.closed == [old]


async def test_the_same_upload_is_the_same_version_again(home, guest) -> None:
    registry = await deployed(home, guest, "one", "two")
    history = registry.deployment(*OWNER).history
    assert (await registry.deploy("acme", manifest(), guest("two"))).number == 2
    assert registry.deployment(*OWNER).history == history
    again = await registry.deploy("acme", manifest(), guest("one"), message="not kept")
    assert (again.number, again.message) == (1, "says one")
    assert answers(registry) == "one"
    assert [version.number for version in registry.versions(*OWNER)] == [1, 2]
    other = await registry.deploy("acme", manifest(on_error="fail"), guest("one"))
    assert other.number == 3  # another manifest is another version
    await home.settled()


@pytest.mark.slow
async def test_functions_belong_to_tenants(home, guest) -> None:
    registry = await home.start()
    for tenant in ("acme", "other", "*"):
        await registry.deploy(tenant, manifest(), guest(f"of {tenant}"))
    await registry.deploy("acme", manifest("another"), guest("another"))
    assert [(each.tenant, each.name) for each in registry.deployments()] == [
        ("*", "greet"),
        ("acme", "another"),
        ("acme", "greet"),
        ("other", "greet"),
    ]
    assert [each.name for each in registry.deployments("acme")] == ["another", "greet"]
    assert [say(each.stable) for each in registry.active()] == ["of *", "another", "of acme", "of other"]
    with pytest.raises(NotFound, match="There is no function 'another'"):
        registry.versions("other", "another")


async def test_a_canary_takes_its_share_and_can_be_promoted(home, guest) -> None:
    registry = await deployed(home, guest, "one")
    await registry.deploy("acme", manifest(), guest("two"), canary=0.25)
    now = active(registry)
    assert now.deployment.split == Split(1, 2, 0.25)
    said = [say(now.pick(b"%d" % key)) for key in range(400)]
    assert 60 < said.count("two") < 140
    assert await registry.split("acme", "greet", 0.75, author="bob")
    assert active(registry).deployment.split == Split(1, 2, 0.75)
    moved = [say(active(registry).pick(b"%d" % key)) for key in range(400)]
    assert all(after == "two" for before, after in zip(said, moved, strict=True) if before == "two")
    await registry.promote("acme", "greet", "looks good", author="bob")
    assert active(registry).deployment.split == Split(2)
    assert answers(registry) == "two"
    history = [
        (change.what, change.who, change.before and change.before.text, change.after.text, change.message)
        for change in registry.deployment(*OWNER).history
    ]
    assert history == [
        ("deploy", "ann", None, "@1", "says one"),
        ("deploy", "", "@1", "@1 with @2 for 25.0%", ""),
        ("split", "bob", "@1 with @2 for 25.0%", "@1 with @2 for 75.0%", ""),
        ("promote", "bob", "@1 with @2 for 75.0%", "@2", "looks good"),
    ]


@pytest.mark.slow
async def test_a_deploy_while_a_canary_runs_replaces_or_ends_it(home, guest) -> None:
    registry = await deployed(home, guest, "one")
    await registry.deploy("acme", manifest(), guest("two"), canary=0.1)
    await registry.deploy("acme", manifest(), guest("three"), canary=0.2)
    assert active(registry).deployment.split == Split(1, 3, 0.2)
    await registry.deploy("acme", manifest(), guest("one"))
    assert active(registry).deployment.split == Split(1)
    await registry.deploy("acme", manifest(), guest("four"), canary=0.0)
    assert active(registry).deployment.split == Split(1, 4, 0.0)
    assert {active(registry).pick(b"%d" % key).version.number for key in range(50)} == {1}
    await registry.deploy("acme", manifest(), guest("five"))
    assert active(registry).deployment.split == Split(5)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), float("inf")])
async def test_a_share_that_is_none_is_refused(home, guest, share: float) -> None:
    registry = await deployed(home, guest, "one")
    with pytest.raises(BadRequest, match="is a share from 0 to 1"):
        await registry.deploy("acme", manifest(), guest("two"), canary=share)
    with pytest.raises(BadRequest, match="is a share from 0 to 1"):
        await registry.split("acme", "greet", share)
    assert active(registry).deployment.split == Split(1)


async def test_concurrent_deploys_of_one_function_are_numbered_in_turn(home, guest) -> None:
    registry = await home.start()
    texts = ["one", "two", "three", "four", "five"]
    made = await asyncio.gather(*(registry.deploy("acme", manifest(), guest(text)) for text in texts))
    assert [version.number for version in made] == [1, 2, 3, 4, 5]
    assert answers(registry) == "five"
    await registry.close()


async def test_a_deploy_whose_caller_has_gone_is_done_or_not_but_never_half(home, guest) -> None:
    registry = await deployed(home, guest, "one")
    for pauses in (0, 1, 5, 20, 60):
        asked = asyncio.ensure_future(registry.deploy("acme", manifest(), guest("two")))  # noqa: TID251 - a caller
        for _ in range(pauses):
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        number = active(registry).deployment.split.stable
        assert say(active(registry).stable) == {1: "one", 2: "two"}[number]
    await home.settled()
    kept = [version.number for version in registry.versions(*OWNER)]
    await home.stop()
    registry = await home.start()
    assert [version.number for version in registry.versions(*OWNER)] == kept


async def test_a_change_whose_caller_goes_while_it_is_written_is_done(home, guest) -> None:
    registry = await deployed(home, guest, "one", "two")
    with home.state._writing:
        asked = asyncio.ensure_future(registry.rollback("acme", "greet"))  # noqa: TID251 - a caller
        while not home.state._queue:
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.sleep(0)
    await asyncio.gather(asked, return_exceptions=True)
    assert answers(registry) == "one"
    split = registry.deployment(*OWNER).split
    await home.stop()
    registry = await home.start()
    assert registry.deployment(*OWNER).split == split == Split(1)


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.slow
async def test_what_cannot_be_compiled_is_refused_and_leaves_nothing(home, guest) -> None:
    registry = await deployed(home, guest, "one")
    kept = home.compiler.vault.digests()
    for upload in (b"", b"PK\x03\x04 a zip", guest("two")[:-20], b"\x7fELF"):
        with pytest.raises(FunctionRefused):
            await registry.deploy("acme", manifest(), upload)
    assert answers(registry) == "one"
    assert home.compiler.vault.digests() == kept
    assert home.deploys("deploy", "refused") == 4


async def test_a_manifest_that_makes_no_sense_is_refused_before_anything_is_compiled(home, guest) -> None:
    registry = await home.start()
    with pytest.raises(FunctionRefused, match=r"at `\$\.name`"):
        await registry.deploy("acme", Manifest(name="../etc"), guest("one"))
    with pytest.raises(FunctionRefused, match="is there twice"):
        await registry.deploy("acme", manifest(allow=Allow(kv=("a", "a"))), guest("one"))
    assert home.compiler.vault.digests() == frozenset()


@pytest.mark.slow
async def test_more_memory_at_the_start_than_granted_is_refused_with_numbers(home, guest) -> None:
    registry = await home.start()
    text = r"2,097,152 bytes at the start, of at most 1,048,576 \(limits.memory_mb\): 1,048,576 too many"
    with pytest.raises(FunctionRefused, match=text):
        await registry.deploy("acme", manifest(limits=Quotas(memory_mb=1)), guest("one", memory=32))
    assert home.compiler.vault.digests() == frozenset()
    await registry.deploy("acme", manifest(limits=Quotas(memory_mb=2)), guest("one", memory=32))


@pytest.mark.slow
async def test_a_trial_call_that_reaches_a_limit_is_a_warning(home, guest) -> None:
    registry = await home.start()
    version = await registry.deploy("acme", manifest(), guest("x", first=TRAPS))
    assert not version.warning
    endless = await registry.deploy("acme", manifest(limits=Quotas(cpu_ms=5)), guest("x", first="(loop $l (br $l))"))
    assert "fault: cpu:" in endless.warning


async def test_functions_that_are_switched_off_and_one_too_many_are_refused(home, guest) -> None:
    registry = await home.start(enabled=False)
    with pytest.raises(FunctionRefused, match="switched off"):
        await registry.deploy("acme", manifest(), guest("one"))
    await home.stop()
    registry = await home.start()
    for number in range(MAX_FUNCTIONS):
        registry._roster.deployments["full", f"f{number}"] = None  # type: ignore[assignment]
    with pytest.raises(FunctionRefused, match="at most 256 functions"):
        await registry.deploy("full", manifest(), guest("one"))
    await registry.deploy("acme", manifest(), guest("one"))
    for number in range(MAX_FUNCTIONS):
        del registry._roster.deployments["full", f"f{number}"]


async def test_signed_uploads_are_taken_and_name_their_key_and_others_are_not(home, guest) -> None:
    key = Ed25519PrivateKey.generate()
    registry = await home.start(signatures="required", trusted=(public_text(key),))
    wasm = guest("one")
    with pytest.raises(FunctionRefused) as missing:
        await registry.deploy("acme", manifest(), wasm)
    assert missing.value.code == "signature_missing"
    good = sign(key, artefact_digest(wasm), manifest())
    with pytest.raises(FunctionRefused) as invalid:
        await registry.deploy("acme", manifest(on_error="fail"), wasm, signature=good)
    assert invalid.value.code == "signature_invalid"
    assert home.compiler.vault.digests() == frozenset()
    version = await registry.deploy("acme", manifest(), wasm, signature=good)
    assert version.signer.startswith("ed25519:")


async def test_a_trusted_key_that_is_none_stops_the_start(home) -> None:
    with pytest.raises(ConfigError, match=r"functions\.trusted\[0\]"):
        await home.start(trusted=(base64.b64encode(b"short").decode(),))
    home.state.close()


async def test_who_runs_apart_is_said_by_manifest_operator_or_tenant(home, guest) -> None:
    registry = await home.start(untrusted=("shady",))
    await registry.deploy("acme", manifest(), guest("one"))
    await registry.deploy("acme", manifest(isolation="process"), guest("one"))
    await registry.deploy("shady", manifest(), guest("one"))
    await home.stop()
    await home.start(isolation="process")
    assert home.isolated == [False, True, True, True, True]


async def test_a_store_that_fails_leaves_everything_as_it_was(home, guest) -> None:
    registry = await deployed(home, guest, "one", "two")
    home.state.close()
    with pytest.raises(StoreError):
        await registry.deploy("acme", manifest(), guest("three"))
    with pytest.raises(StoreError):
        await registry.rollback("acme", "greet")
    with pytest.raises(StoreError):
        await registry.delete("acme", "greet")
    assert answers(registry) == "two"
    assert home.deploys("deploy", "failed") == home.deploys("rollback", "failed") == 1
    assert artefact_digest(guest("three")) not in home.compiler.vault.digests()


# ---------------------------------------------------------------------------------------------- going back


@pytest.mark.slow
async def test_rollback_goes_back_step_by_step(home, guest) -> None:
    registry = await deployed(home, guest, "one", "two", "three")
    await registry.rollback("acme", "greet", message="two was better", author="ann")
    assert answers(registry) == "two"
    await registry.rollback("acme", "greet")
    assert answers(registry) == "one"
    with pytest.raises(BadRequest, match="no earlier version to go back to; kept: 1, 2, 3"):
        await registry.rollback("acme", "greet")
    await registry.rollback("acme", "greet", 3)
    assert answers(registry) == "three"
    with pytest.raises(NotFound, match="no version 9; kept: 1, 2, 3"):
        await registry.rollback("acme", "greet", 9)
    await registry.deploy("acme", manifest(), guest("four"))
    await registry.rollback("acme", "greet")
    assert answers(registry) == "three"


async def test_rollback_ends_a_canary_first(home, guest) -> None:
    registry = await deployed(home, guest, "one", "two")
    await registry.deploy("acme", manifest(), guest("three"), canary=0.5)
    await registry.rollback("acme", "greet")
    assert active(registry).deployment.split == Split(2)
    await registry.deploy("acme", manifest(), guest("three"), canary=0.5)
    await registry.rollback("acme", "greet", 1)
    assert active(registry).deployment.split == Split(1)


async def test_without_a_canary_there_is_nothing_to_promote_or_share(home, guest) -> None:
    registry = await deployed(home, guest, "one")
    for change in (registry.promote("acme", "greet"), registry.split("acme", "greet", 0.5)):
        with pytest.raises(BadRequest, match="greet has no canary: @1"):
            await change
    for change in (registry.promote("x", "y"), registry.split("x", "y", 0.5), registry.rollback("x", "y")):
        with pytest.raises(NotFound, match="There is no function 'y'"):
            await change
    with pytest.raises(NotFound):
        await registry.delete("x", "y")
    assert home.deploys("promote", "refused") == 2


@pytest.mark.slow
async def test_old_versions_go_but_never_those_that_run(home, guest) -> None:
    registry = await deployed(home, guest, "one", "two", "three", versions=3)
    await registry.rollback("acme", "greet", 1)
    for text in ("four", "five", "six"):
        await registry.deploy("acme", manifest(), guest(text), canary=0.1)
    assert [version.number for version in registry.versions(*OWNER)] == [1, 5, 6]
    assert home.compiler.vault.digests() == {artefact_digest(guest(text)) for text in ("one", "five", "six")}
    await registry.deploy("acme", manifest(), guest("two"))
    assert [version.number for version in registry.versions(*OWNER)] == [5, 6, 7]  # numbers are never used again
    with pytest.raises(NotFound, match="no version 1; kept: 5, 6, 7"):
        await registry.rollback("acme", "greet", 1)


# ---------------------------------------------------------------------------------------------- canaries that fail


@pytest.mark.slow
async def test_a_canary_that_traps_is_rolled_back_by_itself(home, guest) -> None:
    registry = await deployed(home, guest, "one", canary_calls=20)
    await registry.deploy("acme", manifest(), guest("two", first=TRAPS), canary=0.5)
    now = active(registry)
    for key in range(200):
        loaded = now.pick(b"%d" % key)
        if loaded is now.stable:
            say(loaded)
            registry.observe(loaded, True)
        else:
            with pytest.raises(FunctionFault):
                say(loaded)
            registry.observe(loaded, False)
    await home.settled()
    assert active(registry).deployment.split == Split(1)
    change = registry.deployment(*OWNER).history[-1]
    assert (change.what, change.who) == ("auto_rollback", "edgecache")
    assert "calls of the canary failed" in change.message
    assert home.deploys("auto_rollback", "ok") == 1
    (record,) = home.journal.records(*OWNER, Filter(level="warn"))
    assert record.text.startswith("auto_rollback: @1 with @2 for 50.0% -> @1: a flood of failures: 6 of 6 calls")
    await home.stop()
    registry = await home.start()
    assert registry.deployment(*OWNER).split == Split(1)


async def test_a_canary_is_rolled_back_even_if_the_disk_is_not_there(home, guest) -> None:
    registry = await deployed(home, guest, "one")
    await registry.deploy("acme", manifest(), guest("two"), canary=0.5)
    home.state.close()
    canary = active(registry).canary
    assert canary is not None
    fail(registry, canary, 10)
    await home.settled()
    assert active(registry).deployment.split == Split(1)
    assert home.deploys("auto_rollback", "failed") == 1


async def test_observations_come_from_many_threads(home, guest) -> None:
    registry = await deployed(home, guest, "one")
    await registry.deploy("acme", manifest(), guest("two"), canary=0.5)
    now = active(registry)
    assert now.canary is not None
    works = [threading.Thread(target=fail, args=(registry, now.canary, 100)) for _ in range(8)]
    for work in works:
        work.start()
    for work in works:
        work.join()
    await home.settled()
    assert [change.what for change in registry.deployment(*OWNER).history] == ["deploy", "deploy", "auto_rollback"]


async def test_what_befalls_both_versions_is_held_against_neither(home, guest) -> None:
    registry = await deployed(home, guest, "one", canary_calls=20)
    fail(registry, active(registry).stable, 50)  # before there was a canary: forgotten
    await registry.deploy("acme", manifest(), guest("two"), canary=0.5)
    now = active(registry)
    assert now.canary is not None
    for _ in range(100):
        for loaded in (now.stable, now.canary):
            registry.observe(loaded, True)
            registry.observe(loaded, False)
    await home.settled()
    assert active(registry).deployment.split == Split(1, 2, 0.5)


async def test_another_share_keeps_what_was_counted_and_another_canary_begins_anew(home, guest) -> None:
    registry = await deployed(home, guest, "one", canary_calls=1000)
    await registry.deploy("acme", manifest(), guest("two"), canary=0.5)
    first = active(registry)
    assert first.canary is not None
    trial = first.canary.trial
    fail(registry, first.canary, 3)
    await registry.split("acme", "greet", 0.9)
    assert active(registry).stable.trial is trial
    assert first.canary.trial is trial
    await registry.deploy("acme", manifest(), guest("three"), canary=0.5)
    assert active(registry).stable.trial is not trial
    fail(registry, first.canary, 50)  # calls of the last one that end late count for nothing now
    await home.settled()
    assert active(registry).deployment.split.canary == 3


# ---------------------------------------------------------------------------------------------- calls go on


@pytest.mark.slow
async def test_a_swap_drops_no_call_in_progress(home, guest) -> None:
    registry = await home.start()
    await registry.deploy("acme", manifest(), guest("one", imports=CALLS_HOST, first=ASKS))
    gate = Gate()
    call = asyncio.ensure_future(asyncio.to_thread(say, active(registry).stable, gate))  # noqa: TID251 - a caller
    await asyncio.to_thread(gate.reached.wait, 30)
    await registry.deploy("acme", manifest(), guest("two"))
    await home.settled()
    assert home.closed == []
    assert answers(registry) == "two"
    gate.open.set()
    assert await call == "one"
    del call
    gc.collect()
    await home.settled()
    assert len(home.closed) == 1


@pytest.mark.slow
async def test_calls_in_threads_and_changes_at_once_lose_nothing(home, guest) -> None:
    registry = await deployed(home, guest, "one", "two")
    stop, failures, said = threading.Event(), [], set()

    def work() -> None:
        key = 0
        try:
            while not stop.is_set():
                key += 1
                for each in registry.active():
                    said.add(say(each.pick(b"%d" % key)))
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(15):
        await registry.deploy("acme", manifest(), guest(f"v{turn % 3}"), canary=0.5 if turn % 2 else None)
        await registry.rollback("acme", "greet", 1 + turn % 2)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(said) > 2
    gc.collect()
    await home.settled()
    assert len(home.closed) == len(home.isolated) - 1  # all but the one that runs


async def test_a_deleted_function_leaves_nothing_and_its_name_begins_anew(home, guest) -> None:
    registry = await deployed(home, guest, "one", "two")
    await registry.deploy("other", manifest(), guest("one"))
    home.kv.set(Space(*OWNER), "k", b"v")
    home.kv.set(Space("other", "greet"), "k", b"kept")
    await home.secrets.put(*OWNER, {"TOKEN": "s3cret"})
    await registry.delete(*OWNER)
    assert registry.running(*OWNER) is None
    with pytest.raises(NotFound):
        registry.deployment(*OWNER)
    assert home.kv.usage(*OWNER) == Usage()
    assert home.secrets.list(*OWNER) == []
    assert home.journal.records(*OWNER) == []
    assert home.compiler.vault.digests() == {artefact_digest(guest("one"))}  # the other tenant's
    assert home.kv.get(Space("other", "greet"), "k") == b"kept"
    owner = owner_key(*OWNER)
    left = home.state.read(lambda txn: [(t, k) for t in Table for k, _ in txn.items(t, owner)])
    assert left == []
    again = await registry.deploy("acme", manifest(), guest("three"))
    assert again.number == 1
    assert home.deploys("delete", "ok") == 1


async def test_deleting_waits_for_calls_so_that_they_write_nothing_afterwards(home, guest) -> None:
    registry = await home.start()
    await registry.deploy("acme", manifest(), guest("one", imports=CALLS_HOST, first=ASKS))
    gate = Gate()
    call = asyncio.ensure_future(asyncio.to_thread(say, active(registry).stable, gate))  # noqa: TID251 - a caller
    await asyncio.to_thread(gate.reached.wait, 30)
    deletion = asyncio.ensure_future(registry.delete(*OWNER))  # noqa: TID251 - a caller
    while registry.active():
        await asyncio.sleep(0)
    home.kv.set(Space(*OWNER), "late", b"")  # what that call still does
    assert not deletion.done()
    gate.open.set()
    assert await call == "one"
    await deletion
    assert home.kv.usage(*OWNER) == Usage()


# ---------------------------------------------------------------------------------------------- starting again


@pytest.mark.slow
async def test_everything_is_there_after_a_restart(home, guest) -> None:
    registry = await deployed(home, guest, "one", "two")
    await registry.deploy("acme", manifest(), guest("three"), canary=0.25)
    await registry.deploy("other", manifest("else"), guest("else"))
    before = registry.deployments(), registry.versions(*OWNER)
    await home.stop()
    registry = await home.start()
    assert (registry.deployments(), registry.versions(*OWNER)) == before
    assert [(say(each.stable), each.canary and say(each.canary)) for each in registry.active()] == [
        ("two", "three"),
        ("else", None),
    ]
    assert active(registry).canary is not None
    fail(registry, active(registry).canary, 10)  # and is watched again
    await home.settled()
    assert active(registry).deployment.split == Split(2)


async def test_code_of_another_engine_is_compiled_anew(home, guest, compiled_code: Path) -> None:
    await deployed(home, guest, "one")
    await home.stop()
    digest = artefact_digest(guest("one"))
    for file in compiled_code.glob(f"{digest}-*"):
        file.unlink()
    registry = await home.start()
    assert answers(registry) == "one"
    assert list(compiled_code.glob(f"{digest}-*.cwasm"))


@pytest.mark.slow
async def test_a_function_that_cannot_be_loaded_is_reported_and_hurts_no_other(home, guest) -> None:
    registry = await deployed(home, guest, "one", "two")
    await registry.deploy("acme", manifest(on_error="fail"), guest("three"))
    await registry.deploy("other", manifest(), guest("fine"))
    await home.stop()
    digest = artefact_digest(guest("three"))
    (home.folder / "artefacts" / digest).write_bytes(b"altered")
    for file in (home.folder / "code").glob(f"{digest}-*"):
        file.unlink()
    registry = await home.start()
    now = active(registry)
    assert "greet@3 cannot be loaded" in now.trouble
    assert "altered on disk" in now.trouble
    with pytest.raises(FunctionFault, match="altered on disk") as fault:  # so `on_error` decides, as with any fault
        say(now.stable)
    assert fault.value.fault is Fault.LOAD
    assert say(active(registry, ("other", "greet")).stable) == "fine"
    await registry.deploy("acme", manifest(on_error="fail"), guest("three"))  # brings it back
    assert active(registry).trouble == ""
    assert answers(registry) == "three"
    await registry.rollback("acme", "greet")
    assert answers(registry) == "two"


async def test_a_canary_that_cannot_be_loaded_is_left_out(home, guest) -> None:
    registry = await deployed(home, guest, "one")
    await registry.deploy("acme", manifest(), guest("two"), canary=1.0)
    await home.stop()
    digest = artefact_digest(guest("two"))
    (home.folder / "artefacts" / digest).unlink()
    for file in (home.folder / "code").glob(f"{digest}-*"):
        file.unlink()
    registry = await home.start()
    assert "greet@2 cannot be loaded" in active(registry).trouble
    assert say(active(registry).pick(b"any")) == "one"
    with pytest.raises(FunctionRefused, match="greet@2 cannot be loaded"):
        await registry.promote("acme", "greet")
    await registry.rollback("acme", "greet")
    assert (active(registry).deployment.split, active(registry).trouble) == (Split(1), "")


def spoil(home, table: Table, number: int) -> None:
    """Damage the record in that place of the function's rows."""
    owner = owner_key(*OWNER)

    def run(txn: Any) -> None:
        key = list(txn.items(table, owner))[number][0]
        txn._txn.put(key, b"spoilt", db=txn._tables[table])

    home.state.write(run)


@pytest.mark.parametrize(
    ("table", "number", "named"),
    [
        (Table.DEPLOYMENTS, 0, "the record of function greet of acme is damaged"),
        (Table.VERSIONS, 1, "version 2 of function greet of acme, its stable one, is damaged or gone"),
    ],
)
async def test_a_function_that_cannot_be_read_stops_the_start(home, guest, table, number: int, named: str) -> None:
    registry = await deployed(home, guest, "one", "two")
    await registry.deploy("other", manifest(), guest("fine"))
    spoil(home, table, number)
    await home.stop()
    with pytest.raises(StoreCorrupt, match=rf"{named}\. Restore .*state.* functions\.enabled = false"):
        await home.start()
    assert home.registry.active() == ()


async def test_a_version_that_cannot_be_read_and_does_not_run_is_left_out(home, guest) -> None:
    await deployed(home, guest, "one", "two")
    spoil(home, Table.VERSIONS, 0)
    await home.stop()
    registry = await home.start()
    assert (answers(registry), active(registry).trouble) == ("two", "")
    assert [version.number for version in registry.versions(*OWNER)] == [2]
    assert artefact_digest(guest("one")) in home.compiler.vault.digests()


async def test_a_canary_that_cannot_be_read_is_left_out(home, guest) -> None:
    registry = await deployed(home, guest, "one")
    await registry.deploy("acme", manifest(), guest("two"), canary=1.0)
    spoil(home, Table.VERSIONS, 1)
    await home.stop()
    registry = await home.start()
    assert active(registry).trouble == "its canary, version 2, cannot be read"
    assert say(active(registry).pick(b"any")) == "one"
    with pytest.raises(NotFound, match="Version 2 of greet cannot be read"):
        await registry.promote("acme", "greet")
    await registry.rollback("acme", "greet")
    assert (active(registry).deployment.split, active(registry).trouble) == (Split(1), "")


async def test_artefacts_that_a_killed_process_left_are_swept_at_the_start(home, guest) -> None:
    await deployed(home, guest, "one")
    home.compiler.vault.put(b"of an upload that was never finished")
    await home.stop()
    await home.start()
    assert home.compiler.vault.digests() == {artefact_digest(guest("one"))}


async def test_closing_closes_every_program(home, guest) -> None:
    registry = await deployed(home, guest, "one")
    await registry.deploy("acme", manifest(), guest("two"), canary=0.5)
    await registry.close()
    assert len(home.closed) == len(home.isolated) == 2
    assert registry.active() == ()


# ---------------------------------------------------------------------------------------------- any order

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deploy"), st.integers(0, 4), st.sampled_from([None, 0.0, 0.3, 1.0])),
        st.tuples(st.just("rollback"), st.one_of(st.none(), st.integers(1, 6)), st.none()),
        st.tuples(st.just("promote"), st.none(), st.none()),
        st.tuples(st.just("split"), st.sampled_from([0.0, 0.5, 1.0]), st.none()),
        st.tuples(st.just("restart"), st.none(), st.none()),
    ),
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_whatever_is_done_in_whatever_order_what_runs_is_what_the_split_says(
    steps, guest, wasm_engine, compiled_code, tmp_path_factory, make_home
) -> None:
    async def run() -> None:
        home = make_home(tmp_path_factory.mktemp("any") / "functions", wasm_engine, compiled_code)
        registry = await home.start(versions=3)
        said: dict[int, str] = {}
        for what, value, share in steps:
            try:
                if what == "deploy":
                    version = await registry.deploy("acme", manifest(), guest(f"text {value}"), canary=share)
                    assert said.setdefault(version.number, f"text {value}") == f"text {value}"
                elif what == "rollback":
                    await registry.rollback("acme", "greet", value)
                elif what == "promote":
                    await registry.promote("acme", "greet")
                elif what == "split":
                    await registry.split("acme", "greet", value)
                else:
                    await home.stop()
                    registry = await home.start(versions=3)
            except (NotFound, BadRequest):
                pass
            for now in registry.active():
                split = now.deployment.split
                assert say(now.stable) == said[split.stable]
                assert (now.canary and say(now.canary)) == (split.canary and said[split.canary])
                kept = [each.number for each in registry.versions(*OWNER)]
                assert set(split.numbers()) <= set(kept)
                assert len(kept) <= 3
                assert home.compiler.vault.digests() == {each.artefact for each in registry.versions(*OWNER)}
        await home.stop()

    asyncio.run(run())
