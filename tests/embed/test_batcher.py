import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecache.clock import Clock, ManualClock, SystemClock
from edgecache.config import Embed
from edgecache.embed.base import Matrix, TokenIds
from edgecache.embed.batcher import Batcher
from edgecache.embed.hashing import HashingEmbedder
from edgecache.errors import BadRequest, EmbedError, EmbedTimeout, TextTooLong
from edgecache.telemetry.metrics import Metrics

PATIENT = 30.0


class GatedEmbedder(HashingEmbedder):
    """Hashes, but each pass waits at a gate. `passes` are the texts of each pass, `seconds` what a token costs."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.passes: list[list[str]] = []
        self.tokenised: list[str] = []
        self.words: dict[tuple[int, ...], str] = {}
        self.error: Exception | None = None
        self.nan = False
        self.clock = ManualClock()
        self.seconds = 0.0

    def tokenise(self, texts: Sequence[str]) -> list[TokenIds]:
        self.tokenised += texts
        found = super().tokenise(texts)
        self.words |= {tuple(ids): text for ids, text in zip(found, texts, strict=True)}
        return found

    def encode(self, batch: Sequence[TokenIds]) -> Matrix:
        self.entered.set()
        assert self.open.wait(10), "the test never opened the gate"
        self.passes.append([self.words.get(tuple(ids), "") for ids in batch])
        self.clock.advance(self.seconds * sum(map(len, batch)))
        if self.error is not None:
            raise self.error
        vectors = super().encode(batch)
        return vectors * np.float32("nan") if self.nan else vectors

    def close_gate(self) -> None:
        self.entered.clear()
        self.open.clear()

    async def busy(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 5)


@asynccontextmanager
async def running(
    embedder: HashingEmbedder, config: Embed | None = None, clock: Clock | None = None, metrics: Metrics | None = None
) -> AsyncIterator[Batcher]:
    """A batcher that has warmed up."""
    batcher = Batcher(embedder, config or Embed(deadline=10.0), metrics or Metrics(), clock or SystemClock())
    batcher.start()
    if getattr(embedder, "error", None) is None:
        await batcher.embed("warm", deadline=10.0)
    if isinstance(embedder, GatedEmbedder):
        embedder.passes.clear()
    try:
        yield batcher
    finally:
        if isinstance(embedder, GatedEmbedder):
            embedder.open.set()
        batcher.close()


@asynccontextmanager
async def held(config: Embed | None = None) -> AsyncIterator[tuple[Batcher, GatedEmbedder]]:
    """A batcher whose engine is held in a pass over `first`; that caller is let go at the end."""
    embedder = GatedEmbedder()
    async with running(embedder, config) as batcher:
        embedder.close_gate()
        first = asyncio.ensure_future(batcher.embed("first", deadline=PATIENT))  # noqa: TID251
        await embedder.busy()
        yield batcher, embedder
        embedder.open.set()
        await asyncio.gather(first, return_exceptions=True)


async def spawn(*coroutines: object) -> list[asyncio.Task[object]]:
    """Start each and let it run to where it waits."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]  # type: ignore[call-overload]  # noqa: TID251
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def in_turn(batcher: Batcher) -> None:
    """Until it has taken what waited and wants its turn."""
    while batcher._busy_since is None:
        await asyncio.sleep(0)


def own(text: str) -> np.ndarray:
    embedder = HashingEmbedder()
    return embedder.encode(embedder.tokenise([text]))[0]


async def test_a_vector_is_the_embedders_own() -> None:
    async with running(HashingEmbedder()) as batcher:
        assert batcher.ready
        assert np.array_equal(await batcher.embed("what is an edge"), own("what is an edge"))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.text("ab \n", max_size=12), min_size=1, max_size=5), min_size=1, max_size=12))
async def test_whoever_shares_a_pass_each_gets_the_vectors_of_its_own_texts(requests: list[list[str]]) -> None:
    async with running(HashingEmbedder()) as batcher:
        many = await asyncio.gather(*(batcher.embed_many(texts) for texts in requests))
        single = await asyncio.gather(*(batcher.embed(texts[0]) for texts in requests))
    for texts, (matrix, tokens), vector in zip(requests, many, single, strict=True):
        assert np.array_equal(matrix, np.stack([own(text) for text in texts]))
        assert tokens == sum(map(len, HashingEmbedder().tokenise(texts)))
        assert np.array_equal(vector, own(texts[0]))


async def test_what_queues_while_the_engine_is_busy_shares_the_next_pass() -> None:
    async with held() as (batcher, embedder):
        tasks = await spawn(*(batcher.embed(f"text {i}") for i in range(20)))
        embedder.open.set()
        await asyncio.gather(*tasks)
        assert [len(batch) for batch in embedder.passes] == [1, 20]


async def test_identical_texts_are_embedded_once_and_shared_without_being_the_same_array() -> None:
    async with held() as (batcher, embedder):
        tasks = await spawn(*(batcher.embed("same text") for _ in range(5)), batcher.embed("Same, TEXT!"))
        embedder.open.set()
        one, other, *_ = await asyncio.gather(*tasks)
        assert [len(batch) for batch in embedder.passes] == [1, 1], "case and punctuation are not in these tokens"
        one[:] = 0.0
        assert np.array_equal(other, own("same text"))


async def test_a_late_vector_is_a_timeout_and_its_text_is_not_embedded_for_nothing() -> None:
    async with held() as (batcher, embedder):
        with pytest.raises(EmbedTimeout, match="deadline"):
            await batcher.embed("late", deadline=0.001)
        embedder.open.set()
        await batcher.embed("next")
        assert embedder.passes == [["first"], ["next"]]


async def test_a_caller_whose_pass_is_under_way_is_let_go_in_time_too() -> None:
    embedder = GatedEmbedder()
    async with running(embedder) as batcher:
        embedder.close_gate()
        with pytest.raises(EmbedTimeout):
            await batcher.embed("under way", deadline=0.02)
        assert embedder.entered.wait(5)
        embedder.open.set()
        assert np.array_equal(await batcher.embed("after"), own("after"))


async def test_the_configured_deadline_is_the_default() -> None:
    async with held(Embed(deadline=10.0)) as (batcher, _):
        batcher._settings = Embed(deadline=0.001)
        with pytest.raises(EmbedTimeout):
            await batcher.embed("late")


async def test_a_full_queue_refuses_at_once() -> None:
    async with held(Embed(queue=3, deadline=10.0)) as (batcher, embedder):
        tasks = await spawn(*(batcher.embed(f"text {i}") for i in range(3)))
        with pytest.raises(EmbedTimeout, match="too many"):
            await batcher.embed("one more")
        assert batcher._meters.queue.collect()[0].samples[0].value == 3
        embedder.open.set()
        await asyncio.gather(*tasks)


async def test_a_cancelled_caller_takes_its_text_along_and_disturbs_no_one() -> None:
    async with held() as (batcher, embedder):
        gone, stays = await spawn(batcher.embed("gone"), batcher.embed("stays"))
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        embedder.open.set()
        assert np.array_equal(await stays, own("stays"))  # type: ignore[arg-type]
        assert embedder.passes == [["first"], ["stays"]]


async def test_a_caller_cancelled_during_its_own_pass_disturbs_no_one() -> None:
    embedder = GatedEmbedder()
    async with running(embedder) as batcher:
        embedder.close_gate()
        (gone,) = await spawn(batcher.embed("gone"))
        await embedder.busy()
        gone.cancel()
        embedder.open.set()
        assert np.array_equal(await batcher.embed("stays"), own("stays"))
        assert gone.cancelled()


async def test_a_text_beyond_the_window_is_refused_and_never_cut() -> None:
    embedder = GatedEmbedder()
    async with running(embedder) as batcher:
        await batcher.embed("w " * 512)
        with pytest.raises(TextTooLong, match="512 tokens"):
            await batcher.embed("w " * 513)
        assert len(embedder.passes) == 1


async def test_megabytes_are_refused_without_being_tokenised() -> None:
    embedder = GatedEmbedder()
    async with running(embedder) as batcher:
        embedder.tokenised.clear()
        with pytest.raises(TextTooLong):
            await batcher.embed("x" * 10_000_000)
        assert embedder.tokenised == []


async def test_one_text_too_long_fails_its_request_and_no_other() -> None:
    async with held() as (batcher, embedder):
        bad, good = await spawn(batcher.embed_many(["a", "w " * 513, "b"]), batcher.embed_many(["c"]))
        embedder.open.set()
        with pytest.raises(TextTooLong):
            await bad
        assert np.array_equal((await good)[0][0], own("c"))  # type: ignore[index]


async def test_a_bulk_request_neither_holds_lookups_up_nor_starves() -> None:
    async with held(Embed(deadline=10.0, max_batch_tokens=400)) as (batcher, embedder):
        texts = [f"bulk {i}" for i in range(600)]
        (bulk,) = await spawn(batcher.embed_many(texts))
        lookups = await spawn(*(batcher.embed(f"lookup {i}") for i in range(50)))
        embedder.open.set()
        await asyncio.gather(*lookups)
        matrix, tokens = await bulk  # type: ignore[misc]
        assert len(embedder.passes[1]) == 50 + 50, "two tokens a text: all lookups, and a quarter of 400 tokens of bulk"
        assert sum(text.startswith("lookup") for text in embedder.passes[1]) == 50
        assert np.array_equal(matrix, np.stack([own(text) for text in texts]))
        assert tokens == 1200


async def test_work_with_a_long_deadline_waits_behind_lookups() -> None:
    async with held(Embed(deadline=10.0, max_batch_tokens=64)) as (batcher, embedder):
        fills = await spawn(*(batcher.embed(f"fill {i}", deadline=PATIENT) for i in range(40)))
        lookups = await spawn(*(batcher.embed(f"lookup {i}") for i in range(32)))
        embedder.open.set()
        await asyncio.gather(*fills, *lookups)
        assert sum(text.startswith("lookup") for text in embedder.passes[1]) == 32
        assert len(embedder.passes[1]) == 32 + 8


async def test_token_ids_are_taken_as_they_are() -> None:
    async with running(HashingEmbedder()) as batcher:
        ids = HashingEmbedder().tokenise(["an edge", "a node of a grid"])
        matrix, tokens = await batcher.embed_many(ids)
        assert np.array_equal(matrix, np.stack([own("an edge"), own("a node of a grid")]))
        assert tokens == 7


@pytest.mark.parametrize("ids", [[-1], [2**32], []])
async def test_token_ids_the_model_lacks_are_the_clients_fault(ids: list[int]) -> None:
    async with running(HashingEmbedder()) as batcher:
        with pytest.raises(BadRequest) as caught:
            await batcher.embed_many([[1], ids])
        assert caught.value.param == "input[1]"


async def test_no_texts_are_no_vectors() -> None:
    async with running(HashingEmbedder()) as batcher:
        matrix, tokens = await batcher.embed_many([])
        assert matrix.shape == (0, 384)
        assert tokens == 0


async def test_a_failed_pass_fails_its_texts_and_the_next_pass_works() -> None:
    embedder = GatedEmbedder()
    async with running(embedder) as batcher:
        embedder.error = EmbedError("out of memory")
        with pytest.raises(EmbedError, match="out of memory"):
            await batcher.embed("unlucky")
        assert batcher.ready, "once is no pattern"
        embedder.error = None
        assert np.array_equal(await batcher.embed("lucky"), own("lucky"))


async def test_an_embedder_that_keeps_failing_is_not_ready_gets_one_request_at_a_time_and_recovers() -> None:
    embedder = GatedEmbedder()
    async with running(embedder) as batcher:
        embedder.error = EmbedError("gone")
        for _ in range(3):
            with pytest.raises(EmbedError, match="gone"):
                await batcher.embed("text")
        assert not batcher.ready
        embedder.close_gate()
        embedder.error = None
        (probe,) = await spawn(batcher.embed("probe"))
        await embedder.busy()
        with pytest.raises(EmbedError, match="keeps failing"):
            await batcher.embed("meanwhile")
        embedder.open.set()
        assert np.array_equal(await probe, own("probe"))  # type: ignore[arg-type]
        assert batcher.ready


async def test_an_embedder_that_fails_to_warm_up_is_not_ready_until_it_works() -> None:
    embedder = GatedEmbedder()
    embedder.error = EmbedError("no device")
    async with running(embedder) as batcher:
        with pytest.raises(EmbedError, match=r"no device|keeps failing"):
            await batcher.embed("text")
        assert not batcher.ready
        embedder.error = None
        await batcher.embed("text")
        assert batcher.ready


async def test_a_vector_that_is_not_a_number_is_a_failure() -> None:
    embedder = GatedEmbedder()
    async with running(embedder) as batcher:
        embedder.nan = True
        with pytest.raises(EmbedError, match="not a number"):
            await batcher.embed("text")


async def test_a_pass_that_hangs_makes_callers_fail_at_once() -> None:
    embedder = GatedEmbedder()
    async with running(embedder, clock=embedder.clock) as batcher:
        embedder.close_gate()
        (stuck,) = await spawn(batcher.embed("stuck"))
        await embedder.busy()
        assert batcher.ready
        embedder.clock.advance(1.5)
        assert not batcher.ready
        with pytest.raises(EmbedError, match="hangs"):
            await batcher.embed("text")
        embedder.open.set()
        await stuck
        assert batcher.ready


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_nobody_waits_for_an_engine_that_died_of_something_unforeseen() -> None:
    async with held() as (batcher, embedder):
        tasks = await spawn(batcher.embed_many(["in the pass"]), batcher.embed_many(["queued"]))
        embedder.error = KeyError("a bug")
        embedder.open.set()
        for task in tasks:
            with pytest.raises(EmbedError, match="died"):
                await task
        with pytest.raises(EmbedError, match="not running"):
            await batcher.embed("text")
        assert not batcher.ready
    gc.collect()


async def test_closing_fails_what_waits_and_ends_the_thread() -> None:
    async with held() as (batcher, embedder):
        tasks = await spawn(batcher.embed("a"), batcher.embed_many(["b", "c"]))
        threading.Timer(0.01, embedder.open.set).start()
        batcher.close()
        for task in tasks:
            with pytest.raises(EmbedError, match="stopping"):
                await task
        with pytest.raises(EmbedError, match="not running"):
            await batcher.embed("late")
        assert not batcher._thread.is_alive()


async def test_a_batcher_that_was_never_started_says_so_and_closes() -> None:
    batcher = Batcher(HashingEmbedder(), Embed(), Metrics(), SystemClock())
    with pytest.raises(EmbedError, match="not running"):
        await batcher.embed("text")
    assert not batcher.ready
    batcher.close()


async def test_passes_are_sized_to_a_third_of_the_deadline() -> None:
    embedder = GatedEmbedder()
    embedder.seconds = 0.00005
    async with running(embedder, Embed(deadline=0.3), embedder.clock) as batcher:
        assert batcher._budget == pytest.approx(2000, abs=2), "learnt while warming up"
        embedder.seconds = 0.0004
        await batcher.embed_many([f"a text of five {i}" for i in range(200)])
        assert batcher._budget == pytest.approx(250, abs=2), "a slower machine"
        embedder.seconds = 0.000001
        await batcher.embed("one text")
        assert batcher._budget == Embed().max_batch_tokens, "and a quick one"


async def test_each_pass_is_counted() -> None:
    metrics = Metrics()
    async with running(HashingEmbedder(), metrics=metrics) as batcher:
        before = metrics.embed_batch.collect()[0].samples
        await batcher.embed_many(["a", "b", "c"])
        after = metrics.embed_batch.collect()[0].samples
    total = {sample.name: sample.value for sample in after}["edgecache_embed_batch_size_sum"]
    assert total - {sample.name: sample.value for sample in before}["edgecache_embed_batch_size_sum"] == 3


async def test_engines_that_share_a_turn_compute_one_at_a_time() -> None:
    one, other = GatedEmbedder(), GatedEmbedder()
    async with running(one) as first, running(other) as second:
        second.turn = first.turn
        one.close_gate()
        (computes,) = await spawn(first.embed("one"))
        await one.busy()
        other.entered.clear()
        (waits,) = await spawn(second.embed("other"))
        await in_turn(second)
        assert not other.entered.is_set()
        one.open.set()
        assert np.array_equal(await waits, own("other"))  # type: ignore[arg-type]
        assert one.passes == [["one"]], "which had ended before the other began"
        await computes


async def test_an_engine_whose_turn_never_comes_hangs_and_recovers() -> None:
    embedder = GatedEmbedder()
    async with running(embedder, clock=embedder.clock) as batcher:
        with batcher.turn:
            (waits,) = await spawn(batcher.embed("waits"))
            await in_turn(batcher)
            embedder.clock.advance(1.5)
            with pytest.raises(EmbedError, match="hangs"):
                await batcher.embed("text")
        await waits
        assert batcher.ready


async def test_waiting_for_a_turn_does_not_count_as_slowness() -> None:
    embedder = GatedEmbedder()
    embedder.seconds = 0.00005
    async with running(embedder, Embed(deadline=0.3), embedder.clock) as batcher:
        budget = batcher._budget
        with batcher.turn:
            (waits,) = await spawn(batcher.embed("waits", deadline=PATIENT))
            await in_turn(batcher)
            embedder.clock.advance(0.5)
        await waits
        assert batcher._budget == budget
