"""Conversations made of real questions, with what answers each turn. Made here, not played.

Real questions often differ in one name: `What is the best college in Pune?` and `… in Delhi?`. So the second, asked
after the first, is `And in Delhi?`, and what answers it is known. Labelled duplicates make other wordings of the first
turn, labelled look-alikes make other contexts for the same follow-up, and questions asked after unrelated ones show
whether a turn that stands alone is recognised.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, Final

import msgspec

from edgecache.cache import context, guards, lexicon
from edgecache.quality import datasets
from edgecache.quality.datasets import Clusters, Pair

KINDS: Final = {
    "follow-up": "a question, then `And in Delhi?`",
    "paraphrase": "the same follow-up after another wording of the question",
    "other context": "the same follow-up after a question about the same name that shares hardly a word: easy",
    "hard context": "one follow-up after two questions about the same name that people labelled different",
    "swapped": "the two names the other way round",
    "bare": "`Why?` and the like, which say nothing by themselves",
    "alone": "a question after an unrelated one",
    "alone again": "another wording of it after another unrelated one",
    "look-alike": "a question labelled different from it after an unrelated one",
    "repeat": "an earlier conversation once more",
}
"""What each kind of conversation is."""

_BARE: Final = (
    "Why?",
    "Can you explain that?",
    "What about the second one?",
    "How much does it cost?",
    "Are you sure?",
)


class Conversation(msgspec.Struct, frozen=True):
    """User turns and what answers each. `kind` is one of `KINDS`; `answers` are names, equal for equal answers."""

    kind: str
    turns: tuple[str, ...]
    answers: tuple[str, ...]

    @property
    def answer(self) -> str:
        """What answers the last turn."""
        return self.answers[-1]


class Follow(msgspec.Struct, frozen=True):
    """`first`, then `follow_up`, asks the same as `target`: the two questions differ in one name or number."""

    first: str
    follow_up: str
    target: str
    turned: str
    """The follow-up that leads from `target` back to `first`."""


def follow_ups(questions: Iterable[str]) -> list[Follow]:
    """All questions that differ from another in nothing but a last name or number, as follow-ups; in a fixed order."""
    frames: dict[tuple[str, ...], dict[str, tuple[str, str]]] = defaultdict(dict)
    for question in questions:
        found = _slot(question)
        if found is not None:
            frame, filler = found
            frames[frame].setdefault(filler.casefold(), (question, filler))
    made = []
    for frame, fillers in frames.items():
        link = f"{frame[-1]} " if frame[-1] in context.LINKS else ""
        rows = list(fillers.values())
        for (first, was), (target, now) in zip(rows, rows[1:] + rows[:1], strict=True):
            if target != first:
                made.append(Follow(first, f"And {link}{now}?", target, f"And {link}{was}?"))
    return made


def _slot(question: str) -> tuple[tuple[str, ...], str] | None:
    """A question without its last word, and that word, if it is a name or a number."""
    chunks = question.split()
    last = chunks[-1].strip(lexicon.EDGES) if chunks else ""
    if len(chunks) < 4 or "|" in question or not last:
        return None
    if lexicon.squeeze(last) not in guards.read(question).names and not last.isdigit():
        return None
    return tuple(chunk.strip(lexicon.EDGES).casefold() for chunk in chunks[:-1]), last


def _ending(question: str) -> str:
    """The last two words: `in Pune`."""
    return " ".join(chunk.strip(lexicon.EDGES).casefold() for chunk in question.split()[-2:])


def _is_far(one: set[str], other: set[str]) -> bool:
    """Whether two questions share so few words that no label is needed to tell them apart."""
    return len(one & other) <= len(one | other) / 4


def derive(pairs: Sequence[Pair], *, seed: int, limit: int = 2000) -> list[Conversation]:
    """At most about `limit` conversations from labelled pairs, shuffled. The same for the same pairs and seed."""
    chance = Random(seed)  # noqa: S311 - which conversations, not a secret
    made = _Maker(pairs, chance)
    follows = follow_ups(made.questions)
    chance.shuffle(follows)
    for follow in follows:
        if len(made.conversations) > limit * 0.45:
            break
        made.follow(follow)
    made.hard(limit * 3 // 5)
    made.bare(limit // 10)
    made.alone(limit - limit // 20)
    made.repeat(limit // 20)
    conversations = made.named()
    chance.shuffle(conversations)
    return conversations


class _Maker:
    """Makes conversations and keeps which answers are the same."""

    def __init__(self, pairs: Sequence[Pair], chance: Random) -> None:
        self._chance = chance
        real = [pair for pair in pairs if pair.family == datasets.QQP]
        clusters = Clusters((pair.a, pair.b) for pair in real if pair.same)
        self._answers = {text: clusters.root(text) for pair in real for text in (pair.a, pair.b)}
        self._same: list[tuple[str, str]] = []
        self._groups: defaultdict[str, list[str]] = defaultdict(list)
        for text, name in self._answers.items():
            self._groups[name].append(text)
        self._alike: defaultdict[str, list[str]] = defaultdict(list)
        for pair in real:
            if not pair.same and self._answers[pair.a] != self._answers[pair.b]:
                self._alike[pair.a].append(pair.b)
                self._alike[pair.b].append(pair.a)
        self.questions = list(self._answers)
        self._ending: defaultdict[str, list[str]] = defaultdict(list)
        for text in self.questions:
            self._ending[_ending(text)].append(text)
        self.conversations: list[Conversation] = []

    def named(self) -> list[Conversation]:
        """The conversations, with one name for answers that turned out to be the same."""
        same = Clusters(self._same)
        return [
            msgspec.structs.replace(each, answers=tuple(map(same.root, each.answers))) for each in self.conversations
        ]

    def follow(self, follow: Follow) -> None:
        """The follow-up, after other wordings, in other contexts, and the other way round."""
        self._after("follow-up", follow.first, follow.follow_up, follow.target)
        for other in self._sample(self._others(follow.first), 2):
            self._after("paraphrase", other, follow.follow_up, follow.target)
        for other in self._sample(self._elsewhere(follow.first), 2):
            self._after("other context", other, follow.follow_up)
        self._after("swapped", follow.target, follow.turned, follow.first)

    def hard(self, until: int) -> None:
        """One follow-up after both questions of pairs labelled different, until there are `until` conversations."""
        slots = {text: found for text in self.questions if (found := _slot(text)) is not None}
        names: defaultdict[str, list[str]] = defaultdict(list)
        real = {}
        for text, (frame, name) in slots.items():
            names[frame[-1]].append(name)
            real[frame, name.casefold()] = text
        for text in self._sample(list(slots), len(slots)):
            if len(self.conversations) >= until:
                return
            frame, name = slots[text]
            alike = [other for other in self._alike[text] if other in slots and slots[other][1] == name]
            other_names = [each for each in names[frame[-1]] if each.casefold() != name.casefold()]
            if frame[-1] in context.LINKS and alike and other_names:
                now = self._chance.choice(other_names)
                for first in (text, self._chance.choice(alike)):
                    target = real.get((slots[first][0], now.casefold()))
                    self._after("hard context", first, f"And {frame[-1]} {now}?", target)

    def bare(self, many: int) -> None:
        """Follow-ups without a word of their own, each in two contexts."""
        for question in self._sample(self.questions, many // 2):
            follow_up = self._chance.choice(_BARE)
            for first in (question, *self._sample(self._others(question) or self._alike[question], 1)):
                self._after("bare", first, follow_up)

    def alone(self, until: int) -> None:
        """Whole questions after unrelated ones, until there are `until` conversations."""
        for question in self._sample(self.questions, len(self.questions)):
            others, alike = self._others(question), self._alike[question]
            if len(self.conversations) >= until:
                return
            if others and alike:
                self._unrelated("alone", question)
                self._unrelated("alone again", self._chance.choice(others))
                self._unrelated("look-alike", self._chance.choice(alike))

    def repeat(self, many: int) -> None:
        """Some conversations once more."""
        again = self._sample(self.conversations, many)
        self.conversations += [msgspec.structs.replace(each, kind="repeat") for each in again]

    def _unrelated(self, kind: str, question: str) -> None:
        first = self._chance.choice(self.questions)
        self.conversations.append(
            Conversation(kind, (first, question), (self._answers[first], self._answers[question]))
        )

    def _after(self, kind: str, first: str, follow_up: str, target: str | None = None) -> None:
        """A follow-up has the answer of `target`; the same one after a question of the same answer has the same."""
        name = f"{self._answers[first]} | {follow_up.casefold()}"
        if target is not None:
            self._same.append((name, self._answers[target]))
        self.conversations.append(Conversation(kind, (first, follow_up), (self._answers[first], name)))

    def _elsewhere(self, question: str) -> list[str]:
        """Quite other questions about the same name: what differs is not what the follow-up replaces."""
        mine = set(guards.read(question).content)
        return [
            text
            for text in self._sample(self._ending[_ending(question)], 20)
            if self._answers[text] != self._answers[question] and _is_far(mine, set(guards.read(text).content))
        ]

    def _others(self, question: str) -> list[str]:
        return [text for text in self._groups[self._answers[question]] if text != question]

    def _sample(self, texts: Sequence[Any], many: int) -> list[Any]:
        return self._chance.sample(list(texts), min(many, len(texts)))
