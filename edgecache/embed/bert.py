"""BERT in one screenful: the same weights and the same numbers as the large libraries, sooner.

Three things make it quick on a CPU (`docs/decisions/0003-embedder.md` has the numbers): weights packed once for oneDNN,
the texts of a batch laid end to end without padding, and no framework around either. Residuals, normalisation,
attention and pooling stay in full precision there; only the large matrix products are in bf16 where the CPU has units
for it.

`Encoder` is the layers alone; `Bert` makes a vector of a text with them, `cross_encoder` a score of a pair of texts.
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
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def has_bf16_units() -> bool:
    """Whether this CPU multiplies in bf16; elsewhere torch emulates it, slower than fp32."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def read(folder: Path, device: str = "cpu") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The content of `config.json` and, on `device` and in full precision, of `model.safetensors` in `folder`.

    Raises ConfigError for a kind of BERT that this forward does not compute.
    """
    shape = json.loads((folder / "config.json").read_bytes())
    kind = (shape["model_type"], shape["hidden_act"], shape.get("position_embedding_type", "absolute"))
    if kind != ("bert", "gelu", "absolute"):
        raise ConfigError(f"{folder}: not a BERT that edgecache computes itself: {kind}")
    weights = load_file(folder / "model.safetensors", device=device)
    return shape, {key: weight.float() for key, weight in weights.items() if weight.is_floating_point()}


class _Linear:
    """`x · weight + bias`, optionally through GELU. The weight is packed once into the layout oneDNN works in."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: Tensor) -> None:
        self._bias = bias.to(dtype)
        self._packed = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
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
class Group:
    """Texts of one length, next to each other: `count` texts of `length` tokens, from token `start` on.

    `mask`, one row a text, is False for the tokens that only fill a text up to that length; None where there are none.
    """

    start: int
    count: int
    length: int
    mask: Tensor | None = None

    @property
    def span(self) -> slice:
        """Where its tokens are."""
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

    def __call__(self, x: Tensor, groups: Sequence[Group]) -> Tensor:
        qkv = self._qkv(x)
        x = self._mixed(x + self._mix(torch.cat([self._attend(qkv[group.span], group) for group in groups])))
        return self._out(x + self._down(self._up(x, gelu=True)))

    def _attend(self, qkv: Tensor, group: Group) -> Tensor:
        if qkv.device.type == "cpu":
            qkv = qkv.float()  # between two conversions it is sooner than in bf16, by a fifth on AVX512, and exact
        shape = (group.count, group.length, 3, self._heads, -1)
        query, key, value = qkv.view(shape).permute(2, 0, 3, 1, 4).unbind(0)
        mask = None if group.mask is None else group.mask[:, None, None, :]
        mixed = fn.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return mixed.transpose(1, 2).reshape(group.count * group.length, -1)


class Encoder:
    """The layers of a BERT: what becomes of each token. `shape` and `weights` are what `read` found."""

    def __init__(self, shape: dict[str, Any], weights: dict[str, Tensor], precision: str) -> None:
        epsilon = shape["layer_norm_eps"]
        self._words = weights["embeddings.word_embeddings.weight"]
        places = weights["embeddings.position_embeddings.weight"]
        self.second = len(places)
        """Added to the place of a token of the second text: each place has a row for either."""
        self._places = torch.cat([places + kind for kind in weights["embeddings.token_type_embeddings.weight"]])
        self._embedded = _Norm(weights["embeddings.LayerNorm.weight"], weights["embeddings.LayerNorm.bias"], epsilon)
        self._layers = [
            _Layer(weights, f"encoder.layer.{i}.", shape["num_attention_heads"], epsilon, _DTYPES[precision])
            for i in range(shape["num_hidden_layers"])
        ]

    def __call__(self, words: Tensor, places: Tensor, groups: Sequence[Group]) -> Tensor:
        """The last hidden state of each token of `groups`, a row each, in full precision."""
        x = self._embedded(fn.embedding(words, self._words) + fn.embedding(places, self._places))
        for layer in self._layers:
            x = layer(x, groups)
        return x


class Bert:
    """Mean-pooled BERT on a CPU, in `precision` `fp32` or `bf16`. Raises ConfigError as `read` does."""

    def __init__(self, folder: Path, precision: str) -> None:
        self._encoder = Encoder(*read(folder), precision)

    def __call__(self, batch: Sequence[TokenIds]) -> Matrix:
        """The vector of each text of `batch`, which has at least one."""
        order = sorted(range(len(batch)), key=lambda i: len(batch[i]))
        texts = [batch[i] for i in order]
        groups = grouped([len(text) for text in texts])
        with torch.inference_mode():
            words = torch.tensor([token for text in texts for token in text])
            places = torch.cat([torch.arange(group.length).repeat(group.count) for group in groups])
            x = self._encoder(words, places, groups)
            means = torch.cat([x[group.span].view(group.count, group.length, -1).mean(1) for group in groups])
            vectors = torch.empty_like(means)
            vectors[torch.tensor(order)] = fn.normalize(means, dim=1)
            matrix: Matrix = vectors.numpy()
        return matrix


def grouped(lengths: Sequence[int]) -> list[Group]:
    """Neighbours of equal length, from lengths in order: attention needs neither padding nor a mask."""
    groups: list[Group] = []
    start = first = 0
    for i, length in enumerate(lengths):
        if i + 1 == len(lengths) or lengths[i + 1] != length:
            count = i + 1 - first
            groups.append(Group(start, count, length))
            start, first = start + count * length, i + 1
    return groups


def parts(lengths: Sequence[int], order: Sequence[int], max_tokens: int) -> list[list[int]]:
    """`order` (shortest first) cut so that no part, padded to its longest text, has more than `max_tokens`."""
    found: list[list[int]] = [[]]
    for i in order:
        if found[-1] and (len(found[-1]) + 1) * lengths[i] > max_tokens:
            found.append([])
        found[-1].append(i)
    return found
