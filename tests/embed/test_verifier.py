import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecache.clock import SystemClock
from edgecache.config import Embed
from edgecache.embed import open_verifier
from edgecache.embed.base import Engine, Matrix, Pair, TokenIds
from edgecache.embed.batcher import Batcher
from edgecache.embed.bert import has_bf16_units
from edgecache.embed.cross_encoder import CrossEncoder
from edgecache.embed.hashing import HashingEmbedder
from edgecache.embed.verifier import Verifier
from edgecache.errors import ConfigError, EmbedError, EmbedTimeout, TextTooLong
from edgecache.telemetry.metrics import Metrics

SLOW = Embed(deadline=10.0)


class Common:
    """An engine of the kind that judges pairs, without a model: the share of words that both texts have."""

    name = "common"
    dimension = 1
    window = 16

    def tokenise(self, texts: Sequence[Pair]) -> list[TokenIds]:
        words = HashingEmbedder().tokenise
        return [[*words([one])[0], 0, *words([other])[0]] for one, other in texts]

    def encode(self, batch: Sequence[TokenIds]) -> Matrix:
        return np.array([[self.share(ids)] for ids in batch], dtype=np.float32)

    @staticmethod
    def share(ids: TokenIds) -> float:
        cut = list(ids).index(0)
        one, other = set(ids[:cut]), set(ids[cut + 1 :])
        return len(one & other) / len(one | other)


def share(one: str, other: str) -> float:
    return float(np.float32(Common.share(Common().tokenise([Pair(one, other)])[0])))


@asynccontextmanager
async def running(
    engine: Engine[Pair], config: Embed = SLOW, metrics: Metrics | None = None
) -> AsyncIterator[Verifier]:
    """A verifier that has warmed up."""
    verifier = Verifier(engine, config, metrics or Metrics(), SystemClock())
    verifier.start()
    await verifier.logits("warm", ["up"], deadline=30.0)
    try:
        yield verifier
    finally:
        verifier.close()


async def spawn(*coroutines: object) -> list[asyncio.Task[object]]:
    """Start each and let it run to where it waits."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]  # type: ignore[call-overload]  # noqa: TID251
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def in_turn(verifier: Verifier) -> None:
    """Until it has taken what waited and wants its turn."""
    while verifier._busy_since is None:
        await asyncio.sleep(0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.text("ab ", max_size=8), st.lists(st.text("ab ", max_size=8), max_size=5)), max_size=8))
async def test_each_question_gets_the_scores_of_its_own_candidates_in_order(asked: list[tuple[str, list[str]]]) -> None:
    async with running(Common()) as verifier:
        found = await asyncio.gather(*(verifier.logits(question, texts) for question, texts in asked))
    assert found == [[share(question, text) for text in texts] for question, texts in asked]


async def test_questions_that_wait_share_a_pass() -> None:
    metrics = Metrics()
    async with running(Common(), metrics=metrics) as verifier:
        passes = metrics.verify_pass.collect()[0].samples
        with verifier.turn:
            (first,) = await spawn(verifier.logits("first", ["one"]))
            await in_turn(verifier)
            rest = await spawn(*(verifier.logits(f"question {i}", ["one", "two"]) for i in range(3)))
            assert metrics.verify_queue.collect()[0].samples[0].value == 6
        await asyncio.gather(first, *rest)
        after = metrics.verify_pass.collect()[0].samples
    name = "edgecache_verify_pass_seconds_count"
    assert [s.value - p.value for s, p in zip(after, passes, strict=True) if s.name == name] == [2]


async def test_no_candidates_are_no_scores() -> None:
    verifier = Verifier(Common(), SLOW, Metrics(), SystemClock())
    assert await verifier.logits("question", []) == []


async def test_a_late_score_is_a_timeout() -> None:
    async with running(Common(), Embed(deadline=0.01)) as verifier:
        with verifier.turn, pytest.raises(EmbedTimeout, match="deadline"):
            await verifier.logits("late", ["text"])
        with verifier.turn, pytest.raises(EmbedTimeout, match="deadline"):
            await verifier.logits("late", ["text"], deadline=0.005)


async def test_a_full_queue_refuses_at_once() -> None:
    async with running(Common(), Embed(queue=2, deadline=10.0)) as verifier:
        with verifier.turn:
            (first,) = await spawn(verifier.logits("first", ["text"]))
            await in_turn(verifier)
            (second,) = await spawn(verifier.logits("second", ["one", "two"]))
            with pytest.raises(EmbedTimeout, match="too many"):
                await verifier.logits("third", ["text"])
        await asyncio.gather(first, second)


async def test_a_pair_over_the_window_is_refused_and_never_cut() -> None:
    async with running(Common()) as verifier:
        with pytest.raises(TextTooLong, match="16 tokens"):
            await verifier.logits("a question", ["short", "word " * 14])
        with pytest.raises(TextTooLong):
            await verifier.logits("x" * 10_000_000, ["short"])
        assert await verifier.logits("a question", ["a question"]) == [1.0]


async def test_a_verifier_that_is_closed_or_was_never_started_says_so() -> None:
    verifier = Verifier(Common(), SLOW, Metrics(), SystemClock())
    with pytest.raises(EmbedError, match="verifier is not running"):
        await verifier.logits("question", ["text"])
    async with running(Common()) as verifier:
        with verifier.turn:
            tasks = await spawn(verifier.logits("one", ["text"]), verifier.logits("two", ["text"]))
            closing = asyncio.to_thread(verifier.close)
            (closed,) = await spawn(closing)
            while not verifier._closed:
                await asyncio.sleep(0)
        await closed
        for task in tasks:
            with pytest.raises(EmbedError, match="verifier is stopping"):
                await task
        assert not verifier.ready


async def test_it_takes_turns_with_the_embedder_it_is_told_of() -> None:
    batcher = Batcher(HashingEmbedder(), SLOW, Metrics(), SystemClock())
    verifier = Verifier(Common(), SLOW, Metrics(), SystemClock(), turn=batcher.turn)
    verifier.start()
    await verifier.logits("warm", ["up"])
    with batcher.turn:
        (waits,) = await spawn(verifier.logits("a b", ["a"]))
        await in_turn(verifier)
        assert not waits.done()
    assert await waits == [0.5]
    verifier.close()


# ------------------------------------------------------------------------------------------------------ with a model
@pytest.mark.model
async def test_the_real_engine_behind_the_queue(manifest_path: Path) -> None:
    loaded = open_verifier(Embed(device="cpu"), manifest_path)
    assert loaded is not None
    texts = ["How can I reset my password?", "Why is the sky blue?", "How do I reset my password?"]
    pairs = [Pair("How do I reset it?", text) for text in texts]
    expected = loaded.engine.encode(loaded.engine.tokenise(pairs))[:, 0]
    async with running(loaded.engine) as verifier:
        found = await verifier.logits("How do I reset it?", texts)
        (turned,) = await verifier.logits(texts[0], ["How do I reset it?"])
        with pytest.raises(TextTooLong, match="256 tokens that tiny takes"):
            await verifier.logits("word " * 200, ["other " * 60])
        with pytest.raises(EmbedError, match="Unicode"):
            await verifier.logits("\ud800", ["text"])
    assert np.abs(np.array(found) - expected).max() < 2e-3
    assert abs(turned - found[0]) < 2e-3


@pytest.mark.model
def test_what_is_loaded_names_weights_and_precision_and_brings_its_calibration(manifest_path: Path) -> None:
    loaded = open_verifier(Embed(device="cpu", threads=1), manifest_path)
    assert loaded is not None
    precision = "bf16" if has_bf16_units() else "fp32"
    name, digest, runs_in = loaded.fingerprint.split(":")
    assert (name, len(digest), runs_in) == ("tiny", 16, precision)
    assert (loaded.engine.name, loaded.engine.window, loaded.engine.precision) == ("tiny", 256, precision)
    assert loaded.calibration == b'{"made": "up"}'
    assert torch.get_num_threads() == 1


@pytest.mark.model
@pytest.mark.parametrize("name", ["model.safetensors", "scorer.json"])
def test_an_altered_file_is_refused(manifest_path: Path, verifier_folder: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "verifier"
    shutil.copytree(verifier_folder, folder)
    moved = Embed(device="cpu", verifier=str(folder))
    assert isinstance(open_verifier(moved, manifest_path)[0], CrossEncoder)  # type: ignore[index]
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"{name} is not the pinned file"):
        open_verifier(moved, manifest_path)


@pytest.mark.model
def test_a_missing_file_is_refused(manifest_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        open_verifier(Embed(device="cpu", verifier=str(tmp_path)), manifest_path)


@pytest.mark.model
def test_a_file_that_is_not_pinned_is_refused(manifest_path: Path, verifier_folder: Path, tmp_path: Path) -> None:
    lines = manifest_path.read_text().splitlines(keepends=True)
    path = tmp_path / "manifest.toml"
    path.write_text("".join(line for line in lines if "scorer.json" not in line))
    with pytest.raises(ConfigError, match=r"lacks `scorer\.json`"):
        open_verifier(Embed(device="cpu", verifier=str(verifier_folder)), path)


@pytest.mark.model
@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_asking_for_cuda_without_a_device_is_refused(manifest_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"embed\.device"):
        open_verifier(Embed(device="cuda"), manifest_path)


@pytest.mark.model
def test_loading_needs_none_of_the_large_libraries(manifest_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgecache.config import Embed; "
        "from edgecache.embed import open_verifier; from edgecache.embed.base import Pair; "
        "v = open_verifier(Embed(device='cpu'), Path(sys.argv[1])); "
        "v.engine.encode(v.engine.tokenise([Pair('hello', 'world')])); "
        "sys.exit(bool({'transformers', 'sentence_transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", code, str(manifest_path)], check=False, timeout=100)
    assert run.returncode == 0
