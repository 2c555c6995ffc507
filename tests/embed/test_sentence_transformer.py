from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from edgecache.config import Embed
from edgecache.embed import manifest
from edgecache.embed.bert import has_bf16_units
from edgecache.embed.sentence_transformer import TorchEmbedder, load
from edgecache.errors import ConfigError, EmbedError

pytestmark = pytest.mark.model

SENTENCES = [
    "How do I reset my password?",
    "How can I reset my password?",
    "How do I not reset my password?",
    "What is the capital of France?",
    "What is the capital of Germany?",
    "Who won the world cup in 2018?",
    "Who won the world cup in 2014?",
    "Can a dog eat grapes?",
    "Can dogs eat a grape?",
    "Is it safe to fly while pregnant?",
    "Convert 100 USD to EUR",
    "Convert 100 EUR to USD",
    "¿Cómo cambio mi contraseña?",
    "Wie ändere ich mein Passwort?",
    "パスワードを変更するにはどうすればいいですか",
    "DELETE FROM users WHERE id = 7; -- why does this lock the table?",
    "👍",
    "",
    "supercalifragilisticexpialidocious",
    "I ordered a jacket two weeks ago, it has not arrived, and the tracking page says it is still in the warehouse.",
    "Summarise this: " + "the quick brown fox jumps over the lazy dog, and the dog does not mind. " * 12,
]


@pytest.fixture(scope="module")
def model() -> manifest.Model:
    return manifest.find(manifest.read(manifest.default_path()), "all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def folder(model: manifest.Model) -> Path:
    return manifest.locate(model)


@pytest.fixture(scope="module")
def expected(folder: Path) -> np.ndarray:
    """What sentence-transformers itself makes of the sentences, in full precision."""
    from sentence_transformers import SentenceTransformer

    reference: Any = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    found: np.ndarray = reference.encode(SENTENCES, normalize_embeddings=True)
    return found


def similarity_error(embedder: TorchEmbedder, expected: np.ndarray) -> float:
    found = embedder.encode(embedder.tokenise(SENTENCES))
    assert (1 - (found * expected).sum(axis=1)).max() < 1e-3, "each vector is that of its own sentence"
    return float(np.abs(found @ found.T - expected @ expected.T).max())


def test_the_loaded_embedder_gives_the_similarities_of_sentence_transformers(
    model: manifest.Model, expected: np.ndarray
) -> None:
    embedder = load(Embed(device="cpu"), model)
    assert similarity_error(embedder, expected) <= max(embedder.tolerance, 1e-5)


def test_full_precision_is_exact(model: manifest.Model, folder: Path, expected: np.ndarray) -> None:
    embedder = TorchEmbedder(model, folder, device="cpu", precision="fp32")
    assert embedder.tolerance == 0.0
    assert similarity_error(embedder, expected) < 1e-5


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_model_without_a_forward_of_its_own_runs_on_the_library(
    model: manifest.Model, folder: Path, expected: np.ndarray, precision: str
) -> None:
    foreign = msgspec.structs.replace(model, forward="sentence-transformers")
    embedder = TorchEmbedder(foreign, folder, device="cpu", precision=precision, max_tokens=300)
    assert similarity_error(embedder, expected) <= max(embedder.tolerance, 1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_runs_in_half_precision_within_the_tolerance(model: manifest.Model, expected: np.ndarray) -> None:
    embedder = load(Embed(device="cuda"), model)
    assert (embedder.device, embedder.precision) == ("cuda", "fp16")
    assert similarity_error(embedder, expected) <= embedder.tolerance


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_asking_for_cuda_without_a_device_is_refused(model: manifest.Model) -> None:
    with pytest.raises(ConfigError, match=r"embed\.device"):
        load(Embed(device="cuda"), model)


def test_altered_weights_are_refused(model: manifest.Model, folder: Path, tmp_path: Path) -> None:
    for name in model.sha256:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(folder / name)
    assert load(Embed(device="cpu", path=str(tmp_path)), model).name == model.name
    (tmp_path / "model.safetensors").unlink()
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(ConfigError, match=r"model\.safetensors is not the pinned file"):
        load(Embed(device="cpu", path=str(tmp_path)), model)


@pytest.mark.skipif(not has_bf16_units(), reason="the CPU has no bf16 units")
def test_the_fingerprint_names_model_weights_and_precision(model: manifest.Model, folder: Path) -> None:
    full = TorchEmbedder(model, folder, device="cpu", precision="fp32")
    half = TorchEmbedder(model, folder, device="cpu", precision="bf16")
    assert full.fingerprint == f"all-MiniLM-L6-v2:{model.digest[:16]}:fp32"
    assert half.fingerprint != full.fingerprint


def test_what_torch_refuses_is_an_embed_error(model: manifest.Model, folder: Path) -> None:
    embedder = TorchEmbedder(model, folder, device="cpu", precision="fp32")
    with pytest.raises(EmbedError, match="IndexError"):
        embedder.encode([[embedder.vocabulary]])


def test_threads_are_as_configured(model: manifest.Model) -> None:
    load(Embed(device="cpu", threads=1), model)
    assert torch.get_num_threads() == 1
