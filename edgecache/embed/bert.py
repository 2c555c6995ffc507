"""Mean-pooled BERT on a CPU, in one screenful: the same weights and the same vectors as sentence-transformers, sooner.

Three things make it quick (`docs/decisions/0003-embedder.md` has the numbers): weights packed once for oneDNN, the
texts of a batch laid end to end without padding, and no framework around either. Residuals, normalisation and pooling
stay in full precision; only the matrix products are in bf16 where the CPU has units for it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.nn.functional as fn
from safetensors.torch import load_file

from edgecache.embed.base import Matrix, TokenIds
from edgecache.errors import ConfigError

Tensor: TypeAlias = Any  # torch is not followed by mypy here
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def has_bf16_units() -> bool:
    """Whether this CPU multiplies in bf16; elsewhere torch emulates it, slower than fp32."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


class _Linear:
    """`x · weight + bias`, optionally through GELU. The weight is packed once into the layout oneDNN works in."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: Tensor) -> None:
        self._bias = bias.to(dtype)
        self._packed = torch.backends.mkldnn.is_available()
        weight = weight.to(dtype).contiguous()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight) if self._packed else weight  # noqa: SLF001
        self._dtype = dtype

    def __call__(self, x: Tensor, *, gelu: bool = False) -> Tensor:
        x = x.to(self._dtype)
        if self._packed:
            activation, flavour = ("gelu", "none") if gelu else ("none", "")
            # What torch.compile emits for a frozen linear layer; torch is pinned to an exact version.
            return torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001
                x, self._weight, self._bias, activation, [], flavour
            )
        y = fn.linear(x, self._weight, self._bias)
        return fn.gelu(y) if gelu else y


class _Norm:
    """Layer normalisation in full precision."""

    def __init__(self, weight: Tensor, bias: Tensor, epsilon: float) -> None:
        self._weight, self._bias, self._epsilon = weight, bias, epsilon

    def __call__(self, x: Tensor) -> Tensor:
        return fn.layer_norm(x, self._weight.shape, self._weight, self._bias, self._epsilon)


@dataclass(frozen=True, slots=True)
class _Group:
    """Texts of one length, next to each other: `count` texts of `length` tokens, from token `start` on."""

    start: int
    count: int
    length: int

    @property
    def span(self) -> slice:
        return slice(self.start, self.start + self.count * self.length)


class _Layer:
    """One transformer layer."""

    def __init__(self, weights: dict[str, Tensor], prefix: str, heads: int, epsilon: float, dtype: Tensor) -> None:
        def pair(name: str) -> tuple[Tensor, Tensor]:
            return weights[f"{prefix}{name}.weight"], weights[f"{prefix}{name}.bias"]

        query, key, value = (pair(f"attention.self.{name}") for name in ("query", "key", "value"))
        self._heads = heads
        self._qkv = _Linear(torch.cat([query[0], key[0], value[0]]), torch.cat([query[1], key[1], value[1]]), dtype)
        self._mix = _Linear(*pair("attention.output.dense"), dtype)
        self._mixed = _Norm(*pair("attention.output.LayerNorm"), epsilon)
        self._up = _Linear(*pair("intermediate.dense"), dtype)
        self._down = _Linear(*pair("output.dense"), dtype)
        self._out = _Norm(*pair("output.LayerNorm"), epsilon)

    def __call__(self, x: Tensor, groups: Sequence[_Group]) -> Tensor:
        qkv = self._qkv(x)
        x = self._mixed(x + self._mix(torch.cat([self._attend(qkv[group.span], group) for group in groups])))
        return self._out(x + self._down(self._up(x, gelu=True)))

    def _attend(self, qkv: Tensor, group: _Group) -> Tensor:
        shape = (group.count, group.length, 3, self._heads, -1)
        query, key, value = qkv.view(shape).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = fn.scaled_dot_product_attention(query, key, value)
        return mixed.transpose(1, 2).reshape(group.count * group.length, -1)


class Bert:
    """The model whose `config.json` and `model.safetensors` are in `folder`, in `precision` `fp32` or `bf16`.

    Raises ConfigError for a kind of BERT that this forward does not compute.
    """

    def __init__(self, folder: Path, precision: str) -> None:
        shape = json.loads((folder / "config.json").read_bytes())
        kind = (shape["model_type"], shape["hidden_act"], shape.get("position_embedding_type", "absolute"))
        if kind != ("bert", "gelu", "absolute"):
            raise ConfigError(f"{folder}: not a BERT that edgecache computes itself: {kind}")
        weights = load_file(folder / "model.safetensors")
        epsilon = shape["layer_norm_eps"]
        self._words = weights["embeddings.word_embeddings.weight"]
        # A single text has but one segment: type 0.
        self._places = (
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self._embedded = _Norm(weights["embeddings.LayerNorm.weight"], weights["embeddings.LayerNorm.bias"], epsilon)
        self._layers = [
            _Layer(weights, f"encoder.layer.{i}.", shape["num_attention_heads"], epsilon, _DTYPES[precision])
            for i in range(shape["num_hidden_layers"])
        ]

    def __call__(self, batch: Sequence[TokenIds]) -> Matrix:
        """The vector of each text of `batch`, which has at least one."""
        order = sorted(range(len(batch)), key=lambda i: len(batch[i]))
        texts = [batch[i] for i in order]
        groups = _groups([len(text) for text in texts])
        with torch.inference_mode():
            words = torch.tensor([token for text in texts for token in text])
            places = torch.cat([torch.arange(group.length).repeat(group.count) for group in groups])
            x = self._embedded(fn.embedding(words, self._words) + fn.embedding(places, self._places))
            for layer in self._layers:
                x = layer(x, groups)
            means = torch.cat([x[group.span].view(group.count, group.length, -1).mean(1) for group in groups])
            vectors = torch.empty_like(means)
            vectors[torch.tensor(order)] = fn.normalize(means, dim=1)
            matrix: Matrix = vectors.numpy()
        return matrix


def _groups(lengths: Sequence[int]) -> list[_Group]:
    """Neighbours of equal length, from lengths in order: attention needs neither padding nor a mask."""
    groups: list[_Group] = []
    start = first = 0
    for i, length in enumerate(lengths):
        if i + 1 == len(lengths) or lengths[i + 1] != length:
            count = i + 1 - first
            groups.append(_Group(start, count, length))
            start, first = start + count * length, i + 1
    return groups
