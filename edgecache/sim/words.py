"""What the scripted core says: a pure function of model, question and seed, so that runs can be compared.

An answer repeats the words of its question: different questions have different answers, and a wrong hit shows. A word
counts as one token.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

_OPENINGS = ("In short,", "Put simply,", "As far as is known,", "The usual answer is this:", "Briefly,")
_VERDICTS = (
    "it depends on the context, but the first option is the common one.",
    "there are two parts to it, and the second follows from the first.",
    "most sources agree on the same point, with small differences.",
    "the answer is yes in nearly all cases that matter in practice.",
    "the number is smaller than people expect, and it has been falling.",
)
_CLOSINGS = (
    "Check the details before you rely on it.",
    "If you need more, ask about one part of it.",
    "There is more to say about the exceptions.",
    "This has not changed for a long time.",
)
_QUESTION_WORDS = 40


@dataclass(frozen=True, slots=True)
class Generated:
    """An answer: its tokens, each with the white space before it, and why it ended (`stop` or `length`)."""

    tokens: tuple[str, ...]
    finish_reason: str

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.tokens)


@lru_cache(maxsize=8192)
def answer(
    model: str, question: str, seed: int, limit: int | None, stop: tuple[str, ...] = (), *, fill: bool = False
) -> Generated:
    """The answer of `model` to `question`.

    At most `limit` tokens; it ends before the first of the `stop` texts. `fill` makes it exactly `limit` tokens long
    (`ignore_eos`).
    """
    pick = int.from_bytes(blake2b(f"{model}\0{question}\0{seed}".encode(), digest_size=8).digest())
    words = _OPENINGS[pick % len(_OPENINGS)].split()
    words += ["on", '"' + " ".join(question.split()[:_QUESTION_WORDS]) + '":']
    words += _VERDICTS[(pick >> 8) % len(_VERDICTS)].split() + _CLOSINGS[(pick >> 16) % len(_CLOSINGS)].split()
    text = " ".join(words)
    if fill and limit is not None:
        text = " ".join([text] * (limit // len(text.split()) + 1))
    ends = [at for mark in stop if mark and (at := text.find(mark)) >= 0]
    stopped = bool(ends)
    tokens = tuple(_tokens(text[: min(ends)] if ends else text))
    if limit is not None and len(tokens) > limit:
        return Generated(tokens[:limit], "length")
    return Generated(tokens, "length" if fill and limit is not None and not stopped else "stop")


def _tokens(text: str) -> Iterator[str]:
    for number, word in enumerate(text.split(" ")):
        yield word if number == 0 else " " + word


def question(body: Mapping[str, Any]) -> str:
    """The text that decides the answer to a request: the last user turn, the prompt, or the input."""
    for field in ("messages", "prompt", "input"):
        if (asked := body.get(field)) is not None:
            break
    if isinstance(asked, list):
        turns = [turn for turn in asked if isinstance(turn, dict) and turn.get("role", "user") == "user"]
        asked = turns[-1].get("content") if turns else asked
    return plain(asked)


def plain(content: Any) -> str:
    """The text of a message's content: a string, a list of parts, of strings or of token ids."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) if isinstance(part, dict) else str(part) for part in content)
    return ""


def count(body: Mapping[str, Any]) -> int:
    """Prompt tokens of a request: the words of all its turns."""
    asked = next((body[name] for name in ("messages", "prompt", "input") if body.get(name) is not None), "")
    turns = asked if isinstance(asked, list) else [asked]
    words = (plain(turn.get("content") if isinstance(turn, dict) else turn) for turn in turns)
    numbers = sum(isinstance(turn, int) for turn in turns)
    return max(1, numbers + sum(len(text.split()) for text in words) + len(str(body.get("instructions") or "").split()))


@lru_cache(maxsize=8192)
def vector(text: str, dimension: int) -> NDArray[np.float32]:
    """The embedding of `text`: a random direction that only the text decides, of length 1."""
    seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
    drawn = np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)
