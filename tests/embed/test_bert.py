import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.embed import manifest
from edgecache.embed.bert import Bert, grouped, has_bf16_units, parts
from edgecache.errors import ConfigError

pytestmark = pytest.mark.model
needs_bf16 = pytest.mark.skipif(not has_bf16_units(), reason="the CPU has no bf16 units")


@pytest.fixture(scope="module")
def folder() -> Path:
    return manifest.locate(manifest.find(manifest.read(manifest.default_path()), "all-MiniLM-L6-v2"))


@pytest.fixture(scope="module", params=["fp32", pytest.param("bf16", marks=needs_bf16)])
def bert(request: pytest.FixtureRequest, folder: Path) -> Bert:
    return Bert(folder, request.param)


def batch(seed: int, size: int) -> list[list[int]]:
    """Texts of random words; some share a length."""
    chance = random.Random(seed)
    lengths = [chance.choice((1, 2, 7, 12, 12, 12, 30, 60)) for _ in range(size)]
    return [[101, *(chance.randrange(1000, 30522) for _ in range(length)), 102] for length in lengths]


def test_a_vector_does_not_depend_on_batch_mates_or_its_place(bert: Bert) -> None:
    texts = batch(1, 40)
    alone = np.concatenate([bert([text]) for text in texts])
    together = bert(texts)
    turned = bert(texts[::-1])[::-1]
    for other in (together, turned):
        assert (1 - (alone * other).sum(axis=1)).max() < 1e-4


def test_a_text_may_fill_the_window(bert: Bert) -> None:
    found = bert([[101, *range(2000, 2254), 102], [101, 102]])
    assert np.allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)


@needs_bf16
def test_bf16_similarities_stay_within_the_tolerance_of_the_manifest(folder: Path) -> None:
    (model,) = manifest.read(manifest.default_path())
    texts = batch(2, 100)
    full, half = Bert(folder, "fp32")(texts), Bert(folder, "bf16")(texts)
    error = np.abs(half @ half.T - full @ full.T).max()
    assert 0 < error < model.tolerance["bf16"]


def test_an_unknown_token_is_an_error_not_a_vector(bert: Bert) -> None:
    with pytest.raises(IndexError):
        bert([[101, 30522, 102]])


def test_another_kind_of_bert_is_refused(folder: Path, tmp_path: Path) -> None:
    shape = json.loads((folder / "config.json").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(shape | {"hidden_act": "relu"}))
    with pytest.raises(ConfigError, match="relu"):
        Bert(tmp_path, "fp32")


def test_loading_needs_none_of_the_large_libraries() -> None:
    code = (
        "import sys; from edgecache.config import Embed; from edgecache.embed import open_embedder; "
        "e = open_embedder(Embed(device='cpu')); e.encode(e.tokenise(['hello'])); "
        "sys.exit(bool({'transformers', 'sentence_transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False, timeout=100).returncode == 0


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40))
def test_groups_cover_the_texts_in_order(lengths: list[int]) -> None:
    lengths.sort()
    groups = grouped(lengths)
    assert [group.length for group in groups for _ in range(group.count)] == lengths
    assert [token for group in groups for token in range(group.span.start, group.span.stop)] == list(
        range(sum(lengths))
    )


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(9, 60))
def test_parts_keep_within_the_tokens_padding_included(lengths: list[int], most: int) -> None:
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    found = parts(lengths, order, most)
    assert [i for part in found for i in part] == order
    assert all(len(part) * max(lengths[i] for i in part) <= most for part in found)


def test_the_check_for_bf16_units_answers() -> None:
    assert has_bf16_units() in {True, False}
