"""A pair verifier to test with: the real architecture with two layers, MiniLM's words, a head drawn by lot."""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TABLE = """
[[model]]
name = "all-MiniLM-L6-v2"
forward = "bert"
dimension = 384
window = 256
licence = "Apache-2.0"
tolerance = { fp32 = 0.0 }
sha256 = {}

[verifier]
name = "tiny"
base = "all-MiniLM-L6-v2"
folder = "verifier"
window = 256
licence = "Apache-2.0"

[verifier.sha256]
"""


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the embedder's files."""
    from edgecache.embed import manifest

    return manifest.locate(manifest.find(manifest.read(manifest.default_path()), "all-MiniLM-L6-v2"))


@pytest.fixture(scope="session")
def network(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The network as it is trained, its weights rounded to what half precision holds."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("base")
    shape = json.loads((minilm / "config.json").read_bytes()) | {"num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps(shape))
    weights = load_file(minilm / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if not k.startswith(tuple(f"encoder.layer.{i}." for i in range(2, 6)))},
        folder / "model.safetensors",
    )
    spec = importlib.util.spec_from_file_location("network", ROOT / "models" / "verifier" / "network.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(3)
    made = module.Network(folder, dropout=0.0).half().float().eval()
    made.folder = folder
    return made


@pytest.fixture(scope="session")
def verifier_folder(network: Any, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a verifier, as they are shipped."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("models") / "verifier"
    folder.mkdir()
    state = {
        key.removeprefix("bert.") if key.startswith("bert.") else f"head.{key}": weight.to(torch.float16).contiguous()
        for key, weight in network.state_dict().items()
    }
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_bytes((network.folder / "config.json").read_bytes())
    (folder / "tokenizer.json").write_bytes((minilm / "tokenizer.json").read_bytes())
    (folder / "scorer.json").write_bytes(b'{"made": "up"}')
    return folder


@pytest.fixture(scope="session")
def manifest_path(verifier_folder: Path) -> Path:
    """A manifest that pins those files, beside their folder."""
    path = verifier_folder.parent / "manifest.toml"
    lines = [
        f'"{file.name}" = "{hashlib.sha256(file.read_bytes()).hexdigest()}"'
        for file in sorted(verifier_folder.iterdir())
    ]
    path.write_text(TABLE + "\n".join(lines) + "\n")
    return path
