"""How long prompts and answers are in tokens, learned from what upstreams counted. Pure."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

ANSWER: Final = 200.0
"""Tokens of an answer of which nothing is known: Azure's trace of conversations has 129 at the median, 601 at most but
one in a hundred."""
RATIO: Final = 0.25
"""Tokens a byte of text, of a model of which nothing is known: English with usual vocabularies."""

_MEMORY: Final = 32
"""An answer counts for a 32nd once so many have been seen, and for its equal share before."""
_TRUSTED: Final = 1024.0
"""Bytes of prompt that `RATIO` is worth."""
_FADING: Final = 0.98
"""What a prompt counts for after the next one."""
_WEIGHTIEST: Final = 32_768
"""Bytes that a prompt may count for: one long text of an odd kind must not decide."""
_LEAST, _LARGEST = 0.02, 2.0

T = TypeVar("T")


class _Known(Generic[T]):
    """A dictionary of at most `most`: what was not used for longest is forgotten first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> T | None:
        found = self._values.get(key)
        if found is not None:
            self._values.move_to_end(key)
        return found

    def set(self, key: Hashable, value: T) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)


class Lengths:
    """Mean numbers of generated tokens, by scope."""

    def __init__(self, most: int = 4096) -> None:
        """`most` scopes are remembered, the last ones used."""
        self._known: _Known[tuple[float, int]] = _Known(most)

    def __len__(self) -> int:
        return len(self._known)

    def expect(self, scope: Hashable, limit: int = 0) -> float:
        """Tokens that an answer in `scope` is expected to have, `limit` at most (0 = no limit)."""
        known = self._known.get(scope)
        expected = ANSWER if known is None else known[0]
        return min(expected, limit) if limit else expected

    def learn(self, scope: Hashable, tokens: float, limit: int = 0) -> None:
        """An answer in `scope` had `tokens`. One that `limit` (0 = none) cut short never lowers the mean."""
        mean, seen = self._known.get(scope) or (ANSWER, 0)
        length = max(tokens, mean) if 0 < limit <= tokens else tokens
        seen = min(seen + 1, _MEMORY)
        self._known.set(scope, (mean + (length - mean) / seen, seen))


class Ratios:
    """Tokens a byte of prompt, by model: all tokens by all bytes, older prompts fading."""

    def __init__(self, most: int = 1024) -> None:
        """`most` models are remembered, the last ones used."""
        self._known: _Known[tuple[float, float]] = _Known(most)

    def __len__(self) -> int:
        return len(self._known)

    def ratio(self, model: str) -> float:
        """Tokens a byte."""
        tokens, size = self._known.get(model) or (RATIO, 1.0)
        return tokens / size

    def learn(self, model: str, tokens: float, size: int) -> None:
        """A prompt of `size` bytes had `tokens`, what templates add apart. What no vocabulary can give is cut off."""
        if size <= 0:
            return
        weight = min(size, _WEIGHTIEST)
        ratio = min(max(tokens / size, _LEAST), _LARGEST)
        old_tokens, old_size = self._known.get(model) or (RATIO * _TRUSTED, _TRUSTED)
        self._known.set(model, (old_tokens * _FADING + ratio * weight, old_size * _FADING + weight))
