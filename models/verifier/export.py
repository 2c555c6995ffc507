"""Write the trained network as the artefact that the daemon reads: half precision, plain names, pinned digests."""

import argparse
import hashlib
import json
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from edgecache.embed import manifest

_HERE = Path(__file__).resolve().parent


def weights(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a trained `Network` under the names of the artefact, in half precision."""
    found = {}
    for name, tensor in state.items():
        if name.endswith("position_ids"):
            continue
        plain = name.removeprefix("bert.") if name.startswith("bert.") else f"head.{name}"
        found[plain] = tensor.to(torch.float16).contiguous()
    return found


def export(network: Path, base: Path, folder: Path) -> None:
    """Write `model.safetensors`, `config.json` and `tokenizer.json` to `folder`."""
    save_file(weights(torch.load(network, map_location="cpu")), folder / "model.safetensors")
    shape = json.loads((base / "config.json").read_text())
    kept = (
        "model_type",
        "hidden_act",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_hidden_layers",
        "layer_norm_eps",
        "max_position_embeddings",
        "vocab_size",
        "type_vocab_size",
        "position_embedding_type",
    )
    (folder / "config.json").write_text(
        json.dumps({name: shape[name] for name in kept if name in shape}, indent=1) + "\n"
    )
    shutil.copyfile(base / "tokenizer.json", folder / "tokenizer.json")


def base() -> Path:
    """Where the weights are that training began with."""
    return manifest.locate(manifest.find(manifest.read(manifest.default_path()), "all-MiniLM-L6-v2"))


def pin(folder: Path, listing: Path) -> None:
    """Put the digests of the artefact's files into the manifest."""
    text = listing.read_text()
    for name in ("model.safetensors", "tokenizer.json", "config.json", "scorer.json"):
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        head, mark, tail = text.partition("[verifier.sha256]")
        if not mark:
            raise SystemExit(f"{listing} has no [verifier.sha256]")
        text = (
            head
            + mark
            + re.sub(rf'^"{re.escape(name)}" = "[0-9a-f]*"', f'"{name}" = "{digest}"', tail, flags=re.MULTILINE)
        )
    listing.write_text(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path)
    parser.add_argument("--base", type=Path, default=base())
    parser.add_argument("--folder", type=Path, default=_HERE)
    parser.add_argument("--pin", action="store_true")
    given = parser.parse_args()
    if given.network:
        export(given.network, given.base, given.folder)
    if given.pin:
        pin(given.folder, _HERE.parent / "manifest.toml")
