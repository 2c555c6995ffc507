import asyncio

from edgecache.http.services import Check, Dates, Inflight, Readiness, RequestIds


def test_a_pop_is_ready_once_started_unless_draining_or_something_required_is_missing() -> None:
    readiness = Readiness()
    assert not readiness.ready
    readiness.started = True
    assert readiness.ready
    readiness.add(lambda: Check("embedder", ok=False, required=False))
    assert readiness.ready
    readiness.add(lambda: Check("store", ok=False))
    assert not readiness.ready


def test_draining_makes_it_unready() -> None:
    readiness = Readiness()
    readiness.started = readiness.draining = True
    assert not readiness.ready


def test_request_ids_are_unique() -> None:
    ids = RequestIds()
    assert len({ids.mint() for _ in range(1000)}) == 1000
    assert RequestIds().mint() != RequestIds().mint()


def test_the_date_is_formatted_as_http_wants_and_changes_with_the_second() -> None:
    dates = Dates()
    assert dates.at(784_111_777.9) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert dates.at(784_111_778.0) == "Sun, 06 Nov 1994 08:49:38 GMT"


async def test_idle_waits_for_the_last_request() -> None:
    inflight = Inflight()
    await inflight.idle()
    assert (inflight.enter(), inflight.enter()) == (1, 2)
    waiting = asyncio.get_running_loop().create_task(inflight.idle())
    inflight.leave()
    await asyncio.sleep(0)
    assert not waiting.done()
    inflight.leave()
    await waiting
