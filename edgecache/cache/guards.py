"""What tells look-alike questions apart: numbers, negation, named things and word order. Pure functions and tables.

Embedders place `5 mg` beside `50 mg` and `pdf to word` beside `word to pdf`; each guard looks for one such difference
and says what it saw. Guards err towards a miss: they know English wording only, and not which differences are harmless.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from edgecache.cache import lexicon
from edgecache.types import GuardWord


@dataclass(frozen=True, slots=True)
class Reading:
    """A question as the guards see it: lower-case words, the stems of those that carry content, numbers, names."""

    words: tuple[str, ...]
    content: tuple[str, ...]
    numbers: frozenset[str]
    names: frozenset[str]
    symbols: frozenset[str]
    spellings: frozenset[str]


@lru_cache(maxsize=2048)
def read(text: str) -> Reading:
    """Take a question apart; some tenths of a millisecond for a sentence, hence the memory."""
    text = text.translate(lexicon.PLAIN)
    spans = [(match.group().casefold(), match.start()) for match in lexicon.WORD.finditer(text)]
    words = tuple(word.removesuffix("'s") for word, _ in spans)
    chunks = text.split()
    bare = [lexicon.squeeze(chunk) for chunk in chunks]
    spellings = {*words, *map(lexicon.stem, words), *bare, *map("".join, pairwise(bare))}
    return Reading(
        words=words,
        content=tuple(lexicon.stem(word) for word in words if word not in lexicon.FILLERS),
        numbers=frozenset(_numbers(spans)),
        names=frozenset(_names(text, chunks)),
        symbols=frozenset(lexicon.SYMBOLS.intersection(text)),
        spellings=frozenset(spellings),
    )


def numbers(ours: Reading, theirs: Reading) -> str | None:
    """Other quantities, units, dates, versions. A unit may be left out; `one` is a pronoun beside no number at all."""
    mine, other = _unmatched(ours.numbers, theirs.numbers), _unmatched(theirs.numbers, ours.numbers)
    if not (mine or other) or (mine | other == {"1"} and "1" not in (*ours.words, *theirs.words)):
        return None
    return f"{_list(mine)} is not {_list(other)}"


def negation(ours: Reading, theirs: Reading) -> str | None:
    """One denies or reverses what the other says: `not`, `un-`, `more` for `less`."""
    denials = [sum(map(_denies, reading.words)) - _or_not(reading.words) for reading in (ours, theirs)]
    if denials[0] != denials[1]:
        return f"{denials[0]} negation(s), not {denials[1]}"
    mine, other = _apart(ours.words, theirs.words)
    for word in mine:
        for opposite in other:
            if opposite in lexicon.OPPOSITE.get(word, ()) or _reversed(word, opposite) or _reversed(opposite, word):
                return f"{word} is not {opposite}"
    return None


def entities(ours: Reading, theirs: Reading) -> str | None:
    """One names something the other does not: a capitalised word, acronym, identifier, address, path or quotation."""
    strange = (ours.names - theirs.spellings) | (theirs.names - ours.spellings)
    strange -= {name for name in strange if lexicon.stem(name) in ours.spellings & theirs.spellings}
    return f"only one names {_list(strange)}" if strange else None


def order(ours: Reading, theirs: Reading) -> str | None:
    """The same words in other roles: `pdf to word` and `word to pdf`, `who beat X` and `who was beaten by X`."""
    mirrored = {(last, link, first) for first, link, last in _links(ours)} & set(_links(theirs))
    if mirrored:
        first, link, last = min(mirrored)
        return f"{first} {link} {last} is turned round"
    turned = _turned(ours.words, theirs.words)
    if turned:
        return f"from {turned} is not to {turned}"
    if Counter(ours.content) != Counter(theirs.content) or _rotated(ours.words, theirs.words):
        return None
    passive = _is_passive(ours.words) != _is_passive(theirs.words)
    if (ours.content == theirs.content) == passive:
        return "the same words in other roles"
    return None


def symbols(ours: Reading, theirs: Reading) -> str | None:
    """Other operators: `>` is not `<`, nor `C#` `C`."""
    mine, other = ours.symbols - theirs.symbols, theirs.symbols - ours.symbols
    return f"{_list(mine)} is not {_list(other)}" if mine or other else None


GUARDS: tuple[tuple[str, Callable[[Reading, Reading], str | None]], ...] = (
    ("numbers", numbers),
    ("negation", negation),
    ("entities", entities),
    ("symbols", symbols),
    ("order", order),
)
"""Each guard by name. It returns what keeps the two questions apart, None where it sees nothing."""


def words(ours: Reading, theirs: Reading) -> tuple[GuardWord, ...]:
    """What each guard says of two questions."""
    return tuple(
        GuardWord(name, passed=(detail := guard(ours, theirs)) is None, detail=detail or "") for name, guard in GUARDS
    )


def _numbers(spans: list[tuple[str, int]]) -> Iterator[str]:
    """Quantities as `value unit`, dates and ordinals; `spans` are words and where they start."""
    padded = [("", -1), *spans, ("", -1)]
    for (before, _), (word, start), (after, at) in zip(padded, padded[1:], padded[2:], strict=False):
        attached = at == start + len(word)
        unit = lexicon.CURRENCIES.get(before)
        if after in lexicon.UNITS and (attached or len(after) > 1 or not after.isalpha()):
            unit = lexicon.UNITS[after]
        for value in lexicon.values(word):
            if attached and after in lexicon.ORDINALS:
                yield f"{value}th"
            else:
                yield f"{value} {unit}" if unit else value


def _unmatched(ours: frozenset[str], theirs: frozenset[str]) -> set[str]:
    """Our numbers that theirs lack, where a value without a unit may have any."""
    values = {number.partition(" ")[0] for number in theirs}
    mine = ours - theirs
    return {number for number in mine if (number.split()[0] not in theirs if " " in number else number not in values)}


def _names(text: str, chunks: list[str]) -> Iterator[str]:
    """Words that name something, squeezed to letters and digits."""
    for quoted in lexicon.QUOTED.findall(text):
        yield from filter(None, map(lexicon.squeeze, "".join(quoted).split()))
    inside = [last not in ".?!:|" for last in (".", *(chunk[-1] for chunk in chunks))]
    placed = list(zip(chunks, inside, strict=False))
    titled = any(within and chunk.istitle() and chunk.casefold() in lexicon.SMALL for chunk, within in placed)
    for chunk, within in placed:
        word = chunk.strip(lexicon.EDGES).removesuffix("'s")
        capital = within and word[:1].isupper() and not titled and word.casefold() not in lexicon.NAMELESS
        acronym = len(word) > 1 and word.isupper() and word[0].isalpha() and not text.isupper()
        if capital or acronym or lexicon.IDENTIFIER.search(word):
            yield lexicon.squeeze(word)


def _denies(word: str) -> bool:
    return word in lexicon.NEGATORS or word.endswith("n't")


def _or_not(said: tuple[str, ...]) -> int:
    """`whether or not` denies nothing."""
    return sum(pair == ("or", "not") for pair in pairwise(said))


def _apart(ours: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The stems that one has more often than the other."""
    mine, other = Counter(map(lexicon.stem, ours)), Counter(map(lexicon.stem, theirs))
    return list(mine - other), list(other - mine)


def _reversed(word: str, opposite: str) -> bool:
    """`unhappy` and `happy`, `harmless` and `harmful`."""
    if word.endswith("less"):
        return opposite.removesuffix("ful") == word[:-4]
    return any(word == prefix + opposite for prefix in lexicon.REVERSING)


def _links(reading: Reading) -> list[tuple[str, str, str]]:
    """What stands on either side of a word that links unequal roles."""
    said = [word for word in reading.words if word not in lexicon.ARTICLES]
    return [
        (lexicon.stem(first), link, lexicon.stem(last))
        for first, link, last in zip(said, said[1:], said[2:], strict=False)
        if link in lexicon.LINKS and first != last
    ]


def _turned(ours: tuple[str, ...], theirs: tuple[str, ...]) -> str | None:
    """What one comes from and the other goes to."""
    for one, other in ((ours, theirs), (theirs, ours)):
        goals, sources = _after("to", one), _after("from", other)
        for place in goals & sources - _after("from", one) - _after("to", other):
            return place
    return None


def _after(word: str, said: tuple[str, ...]) -> set[str]:
    return {last for first, last in pairwise(said) if first == word}


def _rotated(ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    """Whether a leading phrase has only moved to the end: `in python, how do I sort` and `how do I sort in python`."""
    if ours == theirs or len(ours) != len(theirs):
        return False
    return any(ours[cut:] + ours[:cut] == theirs for cut in range(1, len(ours)))


def _is_passive(said: tuple[str, ...]) -> bool:
    done_by = any(last == "by" and first.endswith("ed") for first, last in pairwise(said))
    return done_by and not lexicon.BEING.isdisjoint(said)


def _list(found: frozenset[str] | set[str]) -> str:
    return ", ".join(sorted(found)) or "nothing"
