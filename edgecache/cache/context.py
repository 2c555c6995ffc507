"""Whether the last turn of a conversation stands alone, or with which turns it is compared. Words only, no lookup.

`And in Berlin?` means nothing without what was asked before. A last turn that says by itself what it is about is
compared by itself, whatever was said before; one that continues what the user said is compared together with that.
Everything else keeps its whole history exactly: whenever the wording leaves a doubt, and whenever the assistant's own
words matter (`translate that`, `the second one`, `why?`), because those are not in the text that is compared.

It knows English only: other languages keep their history. It errs towards the history, which costs a hit and no more.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from edgecache.cache import guards, lexicon

SEPARATOR = " | "
"""Between the turns of a text that is compared. A conversation with the sign in one of its turns keeps its history."""

LONGEST = 450
"""Characters of a turn, and of turns compared together: some 110 tokens, so that a pair fits the verifier's 256."""


MOST = 8
"""User turns beyond which a conversation keeps its history: no text that carries them would be short enough."""


class Kind(StrEnum):
    """Part of the scope, so that texts of one kind are never compared with those of another."""

    ALONE = "alone"
    FOLLOW_UP = "follow-up"


class Comparison(msgspec.Struct, frozen=True):
    """What of a conversation is compared by meaning, and with it what need not match exactly any more.

    `carried` are the earlier user turns in `text`, by their place among the user turns. `words` are those of a
    follow-up (`in berlin`), which belong to the scope: beside a whole question in front of it, neither an embedder nor
    a verifier of single questions sees well enough which of two names was asked last, or `how old` for `how tall`.
    """

    kind: Kind
    text: str
    carried: tuple[int, ...] = ()
    words: tuple[str, ...] = ()


def compare(turns: Sequence[str]) -> Comparison | None:
    """The comparison for the user turns of a conversation, oldest first; None where the history must match exactly.

    The first turn stands alone, however it is worded: there is nothing that it could depend on.
    """
    *earlier, last = turns
    if not earlier:
        return Comparison(Kind.ALONE, last)
    if len(turns) > MOST or any(len(turn) > LONGEST or _BREAK.search(turn) or turn.isupper() for turn in turns):
        return None
    before, asked = [_parse(turn) for turn in earlier], _parse(last)
    if _stands_alone(asked, before):
        return Comparison(Kind.ALONE, last)
    replaced = _replaced(asked)
    if replaced is None and not _is_question(asked):
        return None
    start = _start(replaced, before)
    carried = before[start:]
    parallel = replaced is not None and _is_parallel(replaced, asked, carried)
    text = SEPARATOR.join(turns[start:])
    if not (parallel or _is_settled(carried)) or len(text) > LONGEST:
        return None
    return Comparison(Kind.FOLLOW_UP, text, tuple(range(start, len(earlier))), replaced or asked.words)


# ------------------------------------------------------------------------------------------------ words


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


LINKS = _set("in of for from to on with at by about between during as a an than near under over into")
"""Words before what a follow-up replaces: `in Paris`, `of Germany`, `a cat`."""

_PLACING = _set("in at near during within around across throughout since until from on inside outside before after")
"""Words before where and when: `How many people work in Germany?` may be about a firm that was named before."""

_PRONOUNS = _set("it it's its they them their he he's him his she she's her there")

_POINTING = _set("""
    this that that's these those here then thus such same one ones other others another else both either neither each
    former latter above below previous earlier again also too instead besides moreover more less further rest remaining
    similar alternative alternatives second third fourth fifth first last next final so still yet itself themselves
    himself herself hers theirs yours mine my our ours we us your myself ourselves yourself all any none example
    examples answer answers response reply point points step steps item items option options list table code text
    paragraph sentence summary version said say told tell mention mentioned mean meant suggest suggested wrote listed
    gave sure correct right wrong compare compared comparison differ differs equivalent counterpart opposite you
    which""")
"""Words that may point at what was said before, by the user or by the assistant; some of them only now and then."""

_DIFFERENCE = _set("difference differences")
_COMPARATIVES = _set("""
    better worse faster slower cheaper bigger smaller larger higher lower older younger longer shorter easier harder
    safer stronger weaker taller richer poorer newer later sooner greater fewer closer farther healthier heavier lighter
    wider deeper hotter colder warmer cooler quicker simpler nicer""")

_ASKING = _set("""
    what what's who who's whom whose when where why how is are was were do does did has have had can could should would
    will""")
"""First words of a question that names its subject. Not `which`, which may choose among the assistant's things."""

_THINGS = _set("what what's who who's whom whose")
_VALUED = _set("when why is are was were does do did has have")
_MEASURED = _set("old tall big long far many much high deep large fast heavy expensive popular")
_BEING = _set("is are was were")
"""Questions answered by a yes, a number, a time or a reason, not by another thing to talk about."""

_ACTING = _set("i you people someone somebody to should")
"""Words of a how-to question, whose setting (`in Python`) is often given once, turns ago."""

_PERSONAL = _set("i'm i've i'd i'll my mine me myself we we're our ours us you your yours please if let's let")
"""Words of turns that tell about the user or ask for a manner of answering: both may matter ever after."""

_ELSEWHERE = (_PRONOUNS, _POINTING, _COMPARATIVES, _DIFFERENCE, _ASKING, _PERSONAL, _set("i some"))
"""What keeps a few words from being a thing that takes the place of another."""

_AUXILIARY = _set("do can should could would did will must may might")
_INDEFINITE = _set("a an any some")
_COMPLEMENTS = _set("of between behind for to about")
_GREETING = re.compile(
    r"(?:hi|hello|hey|good (?:morning|afternoon|evening)|thanks|thank you|how are you)[ .!?]*", re.IGNORECASE
)
_JOINING = re.compile(r"(?:and|or|but)\b,? *", re.IGNORECASE)
_ABOUT = re.compile(r"(?:what|how) about\b *", re.IGNORECASE)
_DEFINING = re.compile(
    r"(?:(?:what|who)(?:'s| is| are| was| were)|tell me about|explain|define|describe)\b *", re.IGNORECASE
)
_BREAK = re.compile(r"[\r\n|]")
_SENTENCE = re.compile(r"[.?!;:]\s")


@dataclass(frozen=True, slots=True)
class _Turn:
    """A turn as words without case and edges; `kinds` says of each whether it is a `name`, a `number` or a `word`."""

    text: str
    words: tuple[str, ...]
    kinds: tuple[str, ...]
    reading: guards.Reading


def _parse(text: str) -> _Turn:
    reading = guards.read(text)
    chunks = [chunk for chunk in text.translate(lexicon.PLAIN).split() if chunk.strip(lexicon.EDGES)]
    words = tuple(chunk.strip(lexicon.EDGES).casefold() for chunk in chunks)
    return _Turn(text, words, tuple(_kind(chunk, reading) for chunk in chunks), reading)


def _kind(chunk: str, reading: guards.Reading) -> str:
    if any(sign.isdigit() for sign in chunk):
        return "number"
    return "name" if lexicon.squeeze(chunk) in reading.names else "word"


def _holds(turn: _Turn, words: frozenset[str]) -> bool:
    return not words.isdisjoint(turn.words)


def _is_one_sentence(turn: _Turn) -> bool:
    return _SENTENCE.search(turn.text) is None


# ------------------------------------------------------------------------------------------------ standing alone


def _stands_alone(asked: _Turn, before: Sequence[_Turn]) -> bool:
    """A question of fact that names its subject, after questions that have nothing in common with it."""
    if not (_is_question(asked) and all(map(_is_inert, before))):
        return False
    if asked.words[1] in LINKS or _holds(asked, _PRONOUNS) or _holds(asked, _ACTING):
        return False
    said = {word for turn in before for word in turn.reading.content}
    return _names_subject(asked) and _is_definite(asked) and said.isdisjoint(asked.reading.content)


def _is_question(turn: _Turn) -> bool:
    """One whole question without a word that points elsewhere, pronouns aside."""
    words = turn.words
    if len(words) < 3 or words[0] not in _ASKING or _holds(turn, _POINTING) or not _is_one_sentence(turn):
        return False
    if any(word == "some" and then in LINKS for word, then in zip(words, (*words[1:], "in"), strict=True)):
        return False
    if _holds(turn, _DIFFERENCE) and not {"between", "and"} <= set(words):
        return False
    return "than" in words or not _holds(turn, _COMPARATIVES)


def _is_inert(turn: _Turn) -> bool:
    """Whether a turn leaves nothing behind that could change later answers: a greeting or a plain question."""
    if _GREETING.fullmatch(turn.text):
        return True
    words = turn.words
    if not words or not (words[0] in _ASKING or words[0] == "which") or _holds(turn, _PERSONAL):
        return False
    about_me = any(word == "i" and (at == 0 or words[at - 1] not in _AUXILIARY) for at, word in enumerate(words))
    return not about_me and "as" not in words and _is_one_sentence(turn)


def _names_subject(turn: _Turn) -> bool:
    """A name that is not only a place or a time."""
    return any(
        kind == "name" and _PLACING.isdisjoint(turn.words[max(0, at - 3) : at]) for at, kind in enumerate(turn.kinds)
    )


def _is_definite(turn: _Turn) -> bool:
    """Whether each `the` says in the same breath which one: `the capital of France`, not `the side effects`."""
    for at, word in enumerate(turn.words):
        after = slice(at + 1, at + 5)
        if word == "the" and "name" not in turn.kinds[after] and _COMPLEMENTS.isdisjoint(turn.words[after]):
            return False
    return True


# ------------------------------------------------------------------------------------------------ following up


def _replaced(turn: _Turn) -> tuple[str, ...] | None:
    """What `And in Berlin?` or `What about a cat?` puts in the place of something else; a link comes first, if any."""
    joined = _JOINING.match(turn.text)
    rest = turn.text[joined.end() :] if joined else turn.text
    about = _ABOUT.match(rest)
    skipped = (1 if joined else 0) + (2 if about else 0)
    words = turn.words[skipped:]
    if not (1 <= len(words) <= 5) or not (skipped or words[0] in LINKS) or words[-1] in LINKS:
        return None
    if any(word in group for word in words for group in _ELSEWHERE):
        return None
    return words if _is_one_sentence(turn) else None


def _start(replaced: tuple[str, ...] | None, before: Sequence[_Turn]) -> int:
    """The first turn that a follow-up may depend on.

    Earlier turns are left out only where a later one stands alone and it, unlike them, has what is replaced.
    """
    link = replaced[0] if replaced else ""
    if link in LINKS:
        for start in range(len(before) - 1, 0, -1):
            found = any(link in turn.words for turn in before[start:])
            if found and any(link in turn.words for turn in before[:start]):
                break
            if found and _stands_alone(before[start], before[:start]):
                return start
    return 0


def _is_parallel(replaced: tuple[str, ...], asked: _Turn, carried: Sequence[_Turn]) -> bool:
    """Whether the user's own words have the place that is filled anew: `in Paris` for `in Berlin`, name for name."""
    if not all(_replaced(turn) or (_is_question(turn) and not _holds(turn, _PRONOUNS)) for turn in carried[1:]):
        return False
    kind = next((kind for kind in asked.kinds[-len(replaced) :] if kind != "word"), "word")
    if kind == "word" and not (carried[0].words and carried[0].words[0] in _ASKING - _THINGS):
        return False  # `What is a good phone with a keyboard?`, `And with a pen?`: may be about the phone in the answer
    if replaced[0] not in LINKS:
        return kind != "word" and any(kind in turn.kinds for turn in carried)
    return any(kind == other for turn in carried for other in _after(replaced[0], turn))


def _after(link: str, turn: _Turn) -> Iterator[str]:
    """The kind of what follows a link, each time it occurs."""
    for at, word in enumerate(turn.words):
        if word == link and at + 1 < len(turn.words):
            kinds = turn.kinds[at + 1 : at + 4]
            yield next((kind for kind in kinds if kind != "word"), "word")


def _is_settled(carried: Sequence[_Turn]) -> bool:
    """Whether the user's own words say what the conversation is about: one thing, and no answer added another."""
    topics: set[str] = set()
    for turn in carried:
        topic = _topic(turn)
        if topic is None:
            return False
        topics.add(topic)
    return len(topics - {""}) == 1


def _topic(turn: _Turn) -> str | None:
    """What a turn is about; "" if the same as before it, None if its answer may name something new."""
    if _GREETING.fullmatch(turn.text):
        return ""
    if not turn.words:
        return None
    defining = _DEFINING.match(turn.text)
    if defining:
        return _defined(turn, len(_parse(turn.text[defining.end() :]).words))
    first, then = (*turn.words, "")[:2]
    valued = first in _VALUED or (first == "how" and then in _MEASURED) or (first == "where" and then in _BEING)
    if not (valued and _is_question(turn)) or _holds(turn, _INDEFINITE):
        return None
    names = _runs(turn)
    if len(names) == 1:
        return names[0]
    return "" if not names and _holds(turn, _PRONOUNS) else None


def _defined(turn: _Turn, count: int) -> str | None:
    """What `What is X?` is about, where its last `count` words are one name, one word, or `a` and up to two words."""
    words = turn.words[len(turn.words) - count :]
    plain = [word for word in words if turn.kinds[turn.words.index(word)] == "word"]
    if any(word in group for word in words for group in (_PRONOUNS, _POINTING, _COMPARATIVES)):
        return None
    names = _runs(turn)
    if len(names) == 1 and set(plain) <= {"a", "an", "the"}:
        return names[0]
    if not names and (len(plain) == 1 or (len(plain) <= 3 and plain[:1] in (["a"], ["an"]))):
        return " ".join(plain)
    return None


def _runs(turn: _Turn) -> list[str]:
    """Each name once: neighbouring words of a name, and numbers behind one, are one name (`iPhone 15`)."""
    runs: list[list[str]] = []
    inside = False
    for word, kind in zip(turn.words, turn.kinds, strict=True):
        if kind == "name" and not inside:
            runs.append([])
        inside = kind == "name" or (inside and kind == "number")
        if inside:
            runs[-1].append(word.removesuffix("'s"))
    return list(dict.fromkeys(" ".join(run) for run in runs))
