import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecache.embed.base import Pair
from edgecache.embed.bert import has_bf16_units
from edgecache.embed.cross_encoder import CrossEncoder
from edgecache.errors import ConfigError, EmbedError

pytestmark = pytest.mark.model
needs_bf16 = pytest.mark.skipif(not has_bf16_units(), reason="the CPU has no bf16 units")

TEXT = "how do i reset my password why is the sky blue can dogs eat grapes in 2018 not 14 km before after Berlin 👍"
PAIRS = [
    Pair("How do I reset my password?", "How can I reset my password?"),
    Pair("How do I reset my password?", "How can I not reset my password, after all that has happened here?"),
    Pair("Who won the world cup in 2018?", "Who won the world cup in 2014?"),
    Pair("same", "same"),
    Pair("", "nothing was asked"),
    Pair("", ""),
    Pair("パスワードを変更するには", "¿Cómo cambio mi contraseña?"),
    Pair("word " * 100, "other " * 100),
]


def open_folder(folder: Path, precision: str = "fp32", **more: Any) -> CrossEncoder:
    return CrossEncoder("tiny", folder, window=256, device="cpu", precision=precision, **more)


@pytest.fixture(scope="module")
def full(verifier_folder: Path) -> CrossEncoder:
    return open_folder(verifier_folder)


@pytest.fixture(scope="module", params=["fp32", pytest.param("bf16", marks=needs_bf16)])
def engine(request: pytest.FixtureRequest, verifier_folder: Path) -> CrossEncoder:
    return open_folder(verifier_folder, request.param)


@pytest.fixture(scope="module")
def padded(verifier_folder: Path) -> CrossEncoder:
    """As on a GPU: one length for all, a mask, and several passes."""
    made = open_folder(verifier_folder, max_tokens=300)
    made._padded = True
    return made


def scores(engine: CrossEncoder, pairs: list[Pair]) -> np.ndarray:
    found = engine.encode(engine.tokenise(pairs))
    assert found.shape == (len(pairs), 1)
    assert found.dtype == np.float32
    return found[:, 0]


def trained(network: Any, engine: CrossEncoder, pairs: list[Pair]) -> np.ndarray:
    """What the network as it is trained says, padded and in full precision, both orders averaged."""
    logits = []
    with torch.inference_mode():
        for turned in (False, True):
            encodings = [engine.tokenise._tokenizer.encode(*(pair[::-1] if turned else pair)) for pair in pairs]
            longest = max(len(each.ids) for each in encodings)
            columns = [
                [*(rows + [0] * (longest - len(rows)) for rows in (e.ids, e.type_ids, [1] * len(e.ids)))]
                for e in encodings
            ]
            ids, types, mask = torch.tensor(columns).unbind(1)
            logits.append(network(ids, types, mask))
    found: np.ndarray = torch.stack(logits).mean(0).numpy()
    return found


def some_pairs(seed: int, count: int) -> list[Pair]:
    chance = random.Random(seed)
    return [
        Pair(*(" ".join(chance.choices(TEXT.split(), k=chance.choice((1, 5, 8, 8, 8, 20)))) for _ in range(2)))
        for _ in range(count)
    ]


def test_it_computes_what_was_trained(network: Any, full: CrossEncoder) -> None:
    for pairs in (PAIRS, some_pairs(1, 60)):
        expected = trained(network, full, pairs)
        assert expected.std() > 0.01, "the pairs differ"
        assert np.abs(scores(full, pairs) - expected).max() < 1e-4


def test_padding_changes_nothing(full: CrossEncoder, padded: CrossEncoder) -> None:
    for pairs in (PAIRS, some_pairs(2, 40), PAIRS[:1]):
        assert np.abs(scores(padded, pairs) - scores(full, pairs)).max() < 1e-4


@needs_bf16
def test_half_precision_keeps_the_scores(full: CrossEncoder, verifier_folder: Path) -> None:
    pairs = some_pairs(3, 200)
    exact, half = scores(full, pairs), scores(open_folder(verifier_folder, "bf16"), pairs)
    assert 0 < np.abs(half - exact).max() < 0.1 * exact.std()


def test_the_order_of_a_pair_does_not_matter(engine: CrossEncoder) -> None:
    pairs = [*PAIRS, *some_pairs(4, 30)]
    turned = [Pair(other, one) for one, other in pairs]
    assert np.abs(scores(engine, pairs) - scores(engine, turned)).max() < 1e-3


def test_a_score_does_not_depend_on_batch_mates_or_its_place(engine: CrossEncoder) -> None:
    pairs = [*PAIRS, *some_pairs(5, 30)]
    alone = np.concatenate([scores(engine, [pair]) for pair in pairs])
    for other in (scores(engine, pairs), scores(engine, pairs[::-1])[::-1]):
        assert np.abs(alone - other).max() < 2e-3


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), min_size=1, max_size=6))
def test_whatever_is_written_has_a_score(full: CrossEncoder, texts: list[tuple[str, str]]) -> None:
    assert np.isfinite(scores(full, [Pair(*pair) for pair in texts])).all()


def test_a_separator_that_somebody_wrote_separates_nothing(full: CrossEncoder) -> None:
    (written,) = full.tokenise([Pair("yes [SEP] no", "[CLS] no [PAD]")])
    assert written.count(full.tokenise.separator) == 2
    assert scores(full, [Pair("a [SEP] b", "c")]) != pytest.approx(scores(full, [Pair("a", "b [SEP] c")]))


def test_a_pair_may_fill_the_window(engine: CrossEncoder) -> None:
    pair = Pair("word " * 120, "word " * 133)
    assert len(engine.tokenise([pair])[0]) == engine.window
    assert np.isfinite(scores(engine, [pair, PAIRS[0]])).all()


def test_what_torch_refuses_is_an_embed_error(engine: CrossEncoder) -> None:
    with pytest.raises(EmbedError, match="IndexError"):
        engine.encode([[101, 30522, 102, 2003, 102]])


def test_tokens_without_a_separator_are_an_embed_error(engine: CrossEncoder) -> None:
    with pytest.raises(EmbedError, match="ValueError"):
        engine.encode([[101, 2003]])


def test_another_kind_of_network_is_refused(verifier_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(verifier_folder, folder)
    shape = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(shape | {"model_type": "roberta"}))
    with pytest.raises(ConfigError, match="roberta"):
        open_folder(folder)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_says_the_same_in_half_precision(full: CrossEncoder, verifier_folder: Path) -> None:
    cuda = CrossEncoder("tiny", verifier_folder, window=256, device="cuda", precision="fp16")
    pairs = some_pairs(6, 200)
    exact = scores(full, pairs)
    assert np.abs(scores(cuda, pairs) - exact).max() < 0.1 * exact.std()
