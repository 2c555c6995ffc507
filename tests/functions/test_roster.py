from typing import Any

import pytest

from edgecache.errors import NotFound
from edgecache.functions.journal import Journal
from edgecache.functions.ledger import Ledger
from edgecache.functions.loading import Loader
from edgecache.functions.manifest import Manifest
from edgecache.functions.roster import Roster, Said
from edgecache.functions.versions import Loaded, Split, Version, version_digest

OWNER = ("acme", "f")
SAID = Said("ann", "because")


@pytest.fixture
async def roster(home):
    """A roster beside the registry of `home`, over the same store and loader."""
    registry = await home.start()
    home.condemned = []
    return Roster(
        Ledger(home.state),
        registry._loader,
        condemned=lambda *who: home.condemned.append(who),
        settings=home.settings,
        journal=home.journal,
        clock=home.clock,
        metrics=home.metrics,
    )


async def uploaded(roster: Roster, guest: Any, number: int) -> tuple[Version, Loaded]:
    loader: Loader = roster._loader
    upload = await loader.upload("acme", Manifest(name="f"), guest(f"text {number}"))
    digest = version_digest(upload.artefact.digest, upload.manifest)
    version = upload.version("acme", number, digest, 1.0)
    return version, Loaded(version, upload.program, lambda program: program.close())


async def test_every_switch_is_a_new_snapshot_and_a_line_of_history(roster: Roster, guest, home) -> None:
    journal: Journal = home.journal
    assert (roster.snapshot, roster.generation) == ((), 0)
    one, loaded = await uploaded(roster, guest, 1)
    await roster.switch(OWNER, Split(1), "deploy", SAID, fresh=one, loaded=(loaded,))
    first = roster.snapshot
    two, loaded = await uploaded(roster, guest, 2)
    await roster.switch(OWNER, Split(1, 2, 0.5), "deploy", SAID, fresh=two, loaded=(loaded,))
    assert roster.generation == 2
    assert first[0].canary is None
    assert roster.snapshot[0].stable is first[0].stable  # what runs on is not loaded again
    assert home.metrics.function_code.labels(*OWNER)._value.get() == one.code + two.code
    assert [each.text for each in journal.records(*OWNER)] == [
        "deploy: @1: because",
        "deploy: @1 -> @1 with @2 for 50.0%: because",
    ]
    assert roster.artefacts() == {one.artefact, two.artefact}


async def test_a_switch_to_what_runs_already_changes_nothing(roster: Roster, guest) -> None:
    one, loaded = await uploaded(roster, guest, 1)
    now = await roster.switch(OWNER, Split(1), "deploy", SAID, fresh=one, loaded=(loaded,))
    assert await roster.switch(OWNER, Split(1), "rollback", SAID) is now
    assert roster.generation == 1


async def test_what_is_not_at_hand_is_loaded(roster: Roster, guest) -> None:
    for number in (1, 2):
        version, loaded = await uploaded(roster, guest, number)
        await roster.switch(OWNER, Split(number), "deploy", SAID, fresh=version, loaded=(loaded,))
    await roster.switch(OWNER, Split(1), "rollback", SAID)
    assert roster.active[OWNER].stable.version.number == 1


async def test_a_failing_canary_is_told_with_its_number(roster: Roster, guest, home) -> None:
    for number, split in ((1, Split(1)), (2, Split(1, 2, 0.5))):
        version, loaded = await uploaded(roster, guest, number)
        await roster.switch(OWNER, split, "deploy", SAID, fresh=version, loaded=(loaded,))
    trial = roster.active[OWNER].stable.trial
    assert trial is not None
    for _ in range(10):
        trial.observe(2, ok=False)
    ((owner, number, why),) = home.condemned
    assert (owner, number) == (OWNER, 2)
    assert "6 of 6 calls" in why


async def test_removing_forgets_everything_and_gives_what_is_left_to_do(roster: Roster, guest, home) -> None:
    one, loaded = await uploaded(roster, guest, 1)
    await roster.switch(OWNER, Split(1), "deploy", SAID, fresh=one, loaded=(loaded,))
    active, artefacts = await roster.remove(OWNER)
    assert active is not None
    assert (active.stable, artefacts) == (loaded, {one.artefact})
    assert (roster.snapshot, roster.deployments, roster.versions) == ((), {}, {})
    assert Ledger(home.state).load().deployments == {}
    with pytest.raises(NotFound, match="There is no function 'f'"):
        roster.found(OWNER)
    with pytest.raises(NotFound):
        await roster.remove(OWNER)


async def test_what_is_kept_is_loaded_again_and_let_go(roster: Roster, guest, home) -> None:
    one, loaded = await uploaded(roster, guest, 1)
    await roster.switch(OWNER, Split(1), "deploy", SAID, fresh=one, loaded=(loaded,))
    before = roster.deployments, roster.versions
    await roster.load()
    assert (roster.deployments, roster.versions) == before
    roster.clear()
    assert roster.snapshot == ()
