"""The hit decision: does the answer to a stored question answer this one? Judges candidates, finds none."""

from collections.abc import Sequence

from edgecache.cache import guards, lexicon
from edgecache.types import Candidate, GuardWord, Verdict

_ENDS = ".,;:?…。、，；：？"  # noqa: RUF001 - full-width ones end sentences too


def decide(question: str, candidates: Sequence[Candidate], *, threshold: float, tolerance: float) -> Verdict:
    """Accept the most similar candidate that nothing tells apart from `question`, or none.

    A candidate at the threshold that differs only in case, white space, quotes or the punctuation between words passes
    at once. Any other must reach `threshold` plus `tolerance`, the error of a similarity at the embedder's precision,
    and then pass every guard. Guards are asked only about candidates that are similar enough.

    `rule` of the verdict is `identical`, `similar`, `none-near` without any candidate, or what refused the best one:
    `similarity` or the name of a guard.
    """
    least = threshold + tolerance
    ours: guards.Reading | None = None
    plain = _plain(question)
    judged: list[tuple[Candidate, tuple[GuardWord, ...]]] = []
    for candidate in sorted(candidates, key=lambda each: -each.similarity):
        if candidate.similarity >= threshold and _plain(candidate.text) == plain:
            judged.append((candidate, (GuardWord("identical", passed=True),)))
            return Verdict(candidate, "identical", "the same words", tuple(judged))
        near = _similarity(candidate, least)
        said: tuple[GuardWord, ...] = ()
        if near.passed:
            ours = ours or guards.read(question)
            said = guards.words(ours, guards.read(candidate.text))
        judged.append((candidate, (near, *said)))
        if near.passed and all(word.passed for word in said):
            return Verdict(candidate, "similar", f"{near.detail}, and no guard objects", tuple(judged))
    if not judged:
        return Verdict(None, "none-near", "no candidate in this scope")
    refusal = next(word for word in judged[0][1] if not word.passed)
    return Verdict(None, refusal.guard, refusal.detail, tuple(judged))


def _similarity(candidate: Candidate, least: float) -> GuardWord:
    passed = candidate.similarity >= least
    sign = ">=" if passed else "<"
    return GuardWord("similarity", passed=passed, detail=f"{candidate.similarity:.4f} {sign} {least:.4f}")


def _plain(text: str) -> list[str]:
    """The words without case, quotes around them and punctuation that only ends or joins phrases."""
    spoken = text.translate(lexicon.PLAIN)
    shouted = spoken.isupper()  # else `IT` is not `it`, nor `US` `us`
    words = (_bare(word) for word in spoken.split())
    return [word if not shouted and len(word) > 1 and word.isupper() else word.casefold() for word in words if word]


def _bare(word: str) -> str:
    bare = word.strip("\"'").rstrip(_ENDS).rstrip("\"'")
    exclaimed = bare.rstrip("!?")
    return exclaimed if exclaimed[-1:].isalpha() else bare  # `5!` and `!` itself mean something
