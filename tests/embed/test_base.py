import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgecache.config import Embed
from edgecache.embed import HashingEmbedder, open_embedder, open_verifier
from edgecache.embed.base import Embedder
from edgecache.errors import ConfigError


@pytest.mark.parametrize("model", ["hashing", pytest.param("all-MiniLM-L6-v2", marks=pytest.mark.model)])
def test_an_embedder_keeps_what_the_protocol_promises(model: str) -> None:
    embedder: Embedder = open_embedder(Embed(model=model, device="cpu"))
    tokens = embedder.tokenise(["One question.", "And another, which is longer than the first."])
    found = embedder.encode(tokens)
    assert embedder.name == model
    assert model in embedder.fingerprint
    assert found.shape == (2, embedder.dimension)
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    assert all(0 <= token < embedder.vocabulary for ids in tokens for token in ids)
    assert len(embedder.tokenise(["word " * 4000])[0]) > embedder.window, "tokenise cuts nothing"
    assert np.abs(embedder.encode(tokens[:1])[0] @ found[0] - 1) < 1e-4, "batch mates do not matter"


def test_the_hashing_embedder_needs_neither_manifest_nor_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from edgecache.config import Embed; from edgecache.embed import open_embedder; "
        "from edgecache.embed import batcher; open_embedder(Embed(model='hashing')); "
        "from edgecache.embed import open_verifier; open_verifier(Embed(model='hashing')); "
        "sys.exit(bool({'torch', 'tokenizers', 'sentence_transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
    assert isinstance(open_embedder(Embed(model="hashing"), tmp_path / "absent.toml"), HashingEmbedder)


def test_an_unknown_model_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no model `gte-large`.*hashing, all-MiniLM-L6-v2"):
        open_embedder(Embed(model="gte-large"))


@pytest.mark.parametrize("settings", [Embed(model="hashing"), Embed(verifier=""), Embed(model="hashing", verifier="x")])
def test_there_is_no_verifier_where_none_is_wanted(settings: Embed, tmp_path: Path) -> None:
    assert open_verifier(settings, tmp_path / "absent.toml") is None
