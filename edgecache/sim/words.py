"""What the scripted core says: a pure function of model, question and seed, so that runs can be compared.

An answer repeats the words of its question: different questions have different answers, and a wrong hit shows. A
request can name its answer instead (`name_of`): all questions with one name have one answer, which has little in common
with that of any other name, so that a POP that compares answers learns what is true. A word counts as one token.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPENINGS = ("In short,", "Put simply,", "As far as is known,", "The usual answer is this:", "Briefly,")
"""How answers begin that have no name."""
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
_THINGS = """
    granite lantern harbour violin orchard glacier ledger saddle compass vineyard turbine parchment beacon kettle meadow
    anvil telescope barley cathedral falcon copper monsoon ribbon quarry skeleton porcelain thunder archive walnut ferry
    magnet tapestry volcano whistle cellar pendulum coral furnace sparrow treaty marble compost engine lagoon trumpet
    scaffold nectar dungeon satellite cobbler prairie enamel hostel gravity pepper carriage molecule ballad tunnel
    sapphire plough senate cushion reactor heron mortgage desert antenna waltz vaccine timber island clarinet protein
    bridge canyon helmet auction lettuce planet surgeon ceramic tractor mirror opera bacteria anchor pyramid saffron
    glider tribunal mosaic orchid piston shepherd quartz stadium walrus zeppelin
""".split()  # noqa: SIM905 - as a list it would take a hundred lines
_QUESTION_WORDS = 40
_NAMED = "answer="


@dataclass(frozen=True, slots=True)
class Generated:
    """An answer: its tokens, each with the white space before it, and why it ended (`stop` or `length`)."""

    tokens: tuple[str, ...]
    finish_reason: str

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.tokens)


def name_of(tracestate: str | None) -> str:
    """The answer that a request names in its `tracestate` header, a list of `key=value`; empty if it names none.

    A header, because servers refuse body fields that they do not know, and POPs take those out on the way.
    """
    members = (each.strip() for each in (tracestate or "").split(","))
    return next((each.removeprefix(_NAMED) for each in members if each.startswith(_NAMED)), "")


def naming(name: str) -> str:
    """The `tracestate` by which a request names its answer, whatever characters the name has."""
    return _NAMED + blake2b(name.encode(), digest_size=12).hexdigest()


@lru_cache(maxsize=8192)
def answer(
    model: str,
    question: str,
    seed: int,
    limit: int | None,
    stop: tuple[str, ...] = (),
    *,
    fill: bool = False,
    name: str = "",
) -> Generated:
    """The answer of `model` to `question`, or to every question that names its answer `name`.

    At most `limit` tokens; it ends before the first of the `stop` texts. `fill` makes it exactly `limit` tokens long
    (`ignore_eos`).
    """
    text = _named(model, name, seed) if name else _asked(model, question, seed)
    if fill and limit is not None:
        text = " ".join([text] * (limit // len(text.split()) + 1))
    ends = [at for mark in stop if mark and (at := text.find(mark)) >= 0]
    stopped = bool(ends)
    tokens = tuple(_tokens(text[: min(ends)] if ends else text))
    if limit is not None and len(tokens) > limit:
        return Generated(tokens[:limit], "length")
    return Generated(tokens, "length" if fill and limit is not None and not stopped else "stop")


def _asked(model: str, question: str, seed: int) -> str:
    pick = int.from_bytes(blake2b(f"{model}\0{question}\0{seed}".encode(), digest_size=8).digest())
    words = OPENINGS[pick % len(OPENINGS)].split()
    words += ["on", '"' + " ".join(question.split()[:_QUESTION_WORDS]) + '":']
    words += _VERDICTS[(pick >> 8) % len(_VERDICTS)].split() + _CLOSINGS[(pick >> 16) % len(_CLOSINGS)].split()
    return " ".join(words)


def _named(model: str, name: str, seed: int) -> str:
    """Three things that the name alone chooses, so that the answers of two names share little more than their form."""
    one, two, three = Random(f"{model}\0{name}\0{seed}").sample(_THINGS, 3)  # noqa: S311 - repeatable, no secret
    return f"{one.title()}, {two} and {three}. First the {one}; then the {two}; in the end the {three}."


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
