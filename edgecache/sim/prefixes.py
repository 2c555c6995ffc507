"""The scripted core's prefix cache: which beginnings of prompts it has read before, in blocks, as engines keep them.

A word counts as one token, as everywhere in the simulation. Prompts with different salts share nothing.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from edgecache.sim import words

BLOCK = 16
"""Tokens in a block (vLLM's default `block-size`); only whole blocks are found again."""

_KEPT = 65_536
"""Blocks; those not used for longest are forgotten."""


def tokens(body: Mapping[str, Any]) -> list[str]:
    """The words of a request's prompt, all turns of it."""
    asked = next((body[name] for name in ("messages", "prompt", "input") if body.get(name) is not None), "")
    turns = asked if isinstance(asked, list) else [asked]
    found = str(body.get("instructions") or "").split()
    for turn in turns:
        text = words.plain(turn.get("content") if isinstance(turn, dict) else turn)
        found += [str(turn)] if isinstance(turn, int) else text.split()
    return found


class Prefixes:
    """What one server has read: `known` asks, `note` remembers."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[bytes, None] = OrderedDict()

    def known(self, scope: str, prompt: Sequence[str]) -> int:
        """Tokens at the start of `prompt` that are in the cache, never all: the last one is always computed.

        `scope` is what prompts must have in common to share anything: model and salt.
        """
        found = 0
        for block in _chain(scope, prompt):
            if block not in self._blocks:
                break
            self._blocks.move_to_end(block)
            found += BLOCK
        return max(0, min(found, len(prompt) - 1))

    def note(self, scope: str, prompt: Sequence[str]) -> None:
        """Remember the blocks of `prompt`."""
        for block in _chain(scope, prompt):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > _KEPT:
            self._blocks.popitem(last=False)


def _chain(scope: str, prompt: Sequence[str]) -> Iterator[bytes]:
    """A name for each whole block, which depends on all that stands before it."""
    name = blake2b(scope.encode(), digest_size=16).digest()
    for start in range(0, len(prompt) - BLOCK + 1, BLOCK):
        name = blake2b(name + "\0".join(prompt[start : start + BLOCK]).encode(), digest_size=16).digest()
        yield name
