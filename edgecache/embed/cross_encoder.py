"""The pair verifier's network: how sure it is that the answer to one question answers another.

A BERT reads both texts at once, `[CLS] a [SEP] b [SEP]`, and a small head compares what became of either: with u and v
the means over the tokens of a and of b, and c the first token, it makes a logit of |u - v|, u * v and c. The score of a
pair is the mean of the logits of both orders, so that it does not matter which of the two was asked first. What a score
is worth is not decided here: `cache.scorer` makes a probability of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as fn
from numpy.typing import NDArray

from edgecache.embed import bert
from edgecache.embed.base import Matrix, TokenIds
from edgecache.embed.tokeniser import PairTokeniser
from edgecache.errors import EmbedError

Tensor: TypeAlias = Any  # torch is not followed by mypy here


@dataclass(frozen=True, slots=True)
class _Order:
    """A pair in one order: its tokens, the first `cut` of them of type 0, up to and including a `[SEP]`."""

    ids: Sequence[int]
    cut: int


class CrossEncoder:
    """The network in `folder` (`config.json`, `model.safetensors`, `tokenizer.json`), for pairs of `window` tokens.

    An engine of `batcher`: called by one thread at a time, and the score of a pair does not depend on batch mates.
    """

    dimension = 1

    def __init__(
        self, name: str, folder: Path, *, window: int, device: str, precision: str, max_tokens: int = 8192
    ) -> None:
        """Load the verified files. On a GPU `max_tokens`, padding included, go through one pass."""
        self.name = name
        self.window = window
        self.device = device
        self.precision = precision
        self.tokenise = PairTokeniser(folder)
        shape, weights = bert.read(folder, device)
        self._encoder = bert.Encoder(shape, weights, precision)
        self._hidden = weights["head.hidden.weight"], weights["head.hidden.bias"]
        self._out = weights["head.out.weight"], weights["head.out.bias"]
        self._padded = device != "cpu"  # one large step is what a GPU is quick at
        self._max_tokens = max_tokens

    def encode(self, batch: Sequence[TokenIds]) -> Matrix:
        """A row of one number for each pair of `batch`, the mean of the logits of both orders.

        Raises EmbedError for whatever torch raises (CUDA out of memory, unknown token).
        """
        try:
            orders = [order for ids in batch for order in self._orders(ids)]
            with torch.inference_mode():
                scores: Matrix = self._logits(orders).view(-1, 2).mean(1, keepdim=True).numpy()
        except (RuntimeError, ValueError, IndexError, MemoryError) as error:
            raise EmbedError(f"the verifier failed: {type(error).__name__}: {error}") from error
        return scores

    def _orders(self, ids: TokenIds) -> tuple[_Order, _Order]:
        """A pair as it is, and with its texts exchanged."""
        cut = ids.index(self.tokenise.separator) + 1
        return _Order(ids, cut), _Order([ids[0], *ids[cut:], *ids[1:cut]], 1 + len(ids) - cut)

    def _logits(self, orders: Sequence[_Order]) -> Tensor:
        lengths = [len(order.ids) for order in orders]
        by_length = sorted(range(len(orders)), key=lengths.__getitem__)
        parts = bert.parts(lengths, by_length, self._max_tokens) if self._padded else [by_length]
        logits = torch.empty(len(orders))
        for part in parts:
            logits[torch.tensor(part)] = self._pass([orders[i] for i in part])
        return logits

    def _pass(self, orders: Sequence[_Order]) -> Tensor:
        """The logits of `orders`, shortest first."""
        lengths = [len(order.ids) for order in orders]
        if self._padded:
            lengths = [lengths[-1]] * len(orders)
        words, places, sides = torch.from_numpy(_layout(orders, lengths, self._encoder.second)).to(self.device)
        groups = bert.grouped(lengths)
        if self._padded:
            groups = [replace(groups[0], mask=(sides < 2 * len(orders)).view(len(orders), -1))]
        x = self._encoder(words, places, groups)
        starts = torch.tensor([0, *accumulate(lengths[:-1])], device=self.device)
        return self._judge(x[starts], *_means(x, sides, orders)).cpu()

    def _judge(self, first: Tensor, u: Tensor, v: Tensor) -> Tensor:
        both = torch.cat([(u - v).abs(), u * v, first], dim=1)
        return fn.linear(fn.gelu(fn.linear(both, *self._hidden)), *self._out).squeeze(1)


def _layout(orders: Sequence[_Order], lengths: Sequence[int], second: int) -> NDArray[np.int64]:
    """For each token its word, its place, and its side, each order filled up to its length.

    The sides of order i are 2i and 2i + 1; what only fills has the one after all of them.
    """
    words: list[int] = []
    places: list[int] = []
    sides: list[int] = []
    for row, (order, length) in enumerate(zip(orders, lengths, strict=True)):
        own, cut = len(order.ids), order.cut
        words += [*order.ids, *[0] * (length - own)]
        places += [*range(cut), *range(second + cut, second + own), *[0] * (length - own)]
        sides += [2 * row] * cut + [2 * row + 1] * (own - cut) + [2 * len(orders)] * (length - own)
    return np.array([words, places, sides])


def _means(x: Tensor, sides: Tensor, orders: Sequence[_Order]) -> tuple[Tensor, Tensor]:
    """The mean of `x` over the tokens of the first text of each order, and of the second."""
    sums = x.new_zeros(2 * len(orders) + 1, x.shape[1]).index_add_(0, sides, x)
    counts = torch.tensor([(order.cut, len(order.ids) - order.cut) for order in orders], device=x.device)
    first, second = (sums[:-1].view(len(orders), 2, -1) / counts.unsqueeze(2)).unbind(1)
    return first, second
