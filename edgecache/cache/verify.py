"""The hit decision: does the answer to a stored question answer this one? Judges candidates, finds none.

Three steps, each called once a lookup: `doubtful` says whom the pair verifier must see, `judge` turns what is known of
each candidate into a risk, `decide` applies the hit policy to the risks. Pure; evidence comes in as values.
"""

from collections.abc import Mapping, Sequence

from edgecache.cache import budget, features, lexicon, verified
from edgecache.cache.evidence import Segment, Track
from edgecache.cache.scorer import Scorer
from edgecache.config import HitPolicy
from edgecache.types import Candidate, Judgement, Verdict

_ENDS = ".,;:?…。、，；：？"  # noqa: RUF001 - full-width ones end sentences too
MOST = 3
"""Candidates that the pair verifier is asked about: what lies behind the three nearest is hardly ever the best, and one
more costs a sixth of the deadline on a CPU."""

_UNKNOWN = 1.0
"""Risk of a candidate that nobody scored: no policy that looks at risks serves it."""
_EQUAL_WORDS = 0.001
"""Risk of equal words where no verifier was trained to say better."""


def doubtful(question: str, candidates: Sequence[Candidate], scorer: Scorer | None) -> tuple[Candidate, ...]:
    """Whom the pair verifier must see, nearest first: neither in the same words nor far too different."""
    if scorer is None:
        return ()
    plain = _plain(question)
    near = sorted((each for each in candidates if each.similarity >= scorer.clear), key=lambda each: -each.similarity)
    return tuple(each for each in near if _plain(each.text) != plain)[:MOST]


def judge(
    question: str, candidates: Sequence[Candidate], logits: Mapping[int, float], scorer: Scorer | None
) -> tuple[Judgement, ...]:
    """What is held of each candidate, least risk first. `logits` are the pair verifier's, by entry id.

    A candidate that should have been scored and was not (the verifier was late) is unknown, not guessed at. Features
    are worked out for those with a logit only: they take longer than the search.
    """
    if not candidates:
        return ()
    plain = _plain(question)
    scored = [each for each in candidates if each.entry_id in logits]
    rows, words = features.compare(question, scored, logits)
    risks = [_UNKNOWN] * len(scored) if scorer is None else scorer.risks(rows)
    risk_of = {each.entry_id: risk for each, risk in zip(scored, risks, strict=True)}
    said_of = {each.entry_id: said for each, said in zip(scored, words, strict=True)}
    equal = _EQUAL_WORDS if scorer is None else scorer.identical
    judged = []
    for candidate in candidates:
        number, alike = candidate.entry_id, _plain(candidate.text) == plain
        risk = equal if alike else risk_of.get(number, _UNKNOWN)
        judged.append(Judgement(candidate, risk, logits.get(number), alike, said_of.get(number, ())))
    return tuple(sorted(judged, key=lambda each: (each.risk, -each.candidate.similarity)))


def decide(
    judgements: Sequence[Judgement],
    policy: HitPolicy,
    segment: Segment,
    tracks: Mapping[int, Track],
    *,
    floor: float,
    chance: float,
) -> Verdict:
    """The candidate whose answer is served under `policy`, or none.

    `floor` is the least cosine similarity whatever the policy; `tracks` are by entry id; `chance`, uniform in [0, 1),
    is what vCache's policy throws its coin with. `rule` of the verdict is `identical`, the policy's name, or why there
    is no hit: `none-near` (no candidate), `floor`, `risk`, `drift`, `explore`, `similarity`.
    """
    able = [each for each in judgements if each.candidate.similarity >= floor]
    if not able:
        rule = "floor" if judgements else "none-near"
        nearest = max((each.candidate.similarity for each in judgements), default=0.0)
        return Verdict(None, rule, f"the nearest is at {nearest:.4f}, the floor at {floor:.4f}", tuple(judgements))
    if policy.policy == "similarity":
        return _by_similarity(judgements, able, policy.similarity)
    if policy.policy == "verified":
        return _by_record(judgements, able, policy.delta, tracks, chance)
    return _by_risk(judgements, able, policy, segment, tracks)


def _by_risk(
    judgements: Sequence[Judgement],
    able: Sequence[Judgement],
    policy: HitPolicy,
    segment: Segment,
    tracks: Mapping[int, Track],
) -> Verdict:
    """`budget` and `threshold`: the least risk, if that is low enough. Equal words always are."""
    fixed = policy.policy == "threshold"
    limit = 1.0 - policy.threshold if fixed else budget.limit(segment, policy.budget)
    risks = [
        each.risk if fixed else budget.risk(segment, tracks.get(each.candidate.entry_id), each.risk) for each in able
    ]
    risk = min(risks)
    best = able[risks.index(risk)]
    if best.identical:
        return Verdict(best.candidate, "identical", "the same words", tuple(judgements), risk, limit)
    detail = f"risk {risk:.4f}, at most {limit:.4f} may be served"
    if risk <= limit:
        return Verdict(best.candidate, policy.policy, detail, tuple(judgements), risk, limit)
    rule = "drift" if segment.drifted and not fixed else "risk"
    return Verdict(None, rule, detail, tuple(judgements), risk, limit)


def _by_similarity(judgements: Sequence[Judgement], able: Sequence[Judgement], least: float) -> Verdict:
    """What other caches do: the nearest, if it is near enough."""
    best = max(able, key=lambda each: each.candidate.similarity)
    near = best.candidate.similarity
    detail = f"similarity {near:.4f}, at least {least:.4f} is served"
    if near >= least:
        return Verdict(best.candidate, "similarity", detail, tuple(judgements), best.risk, 1.0)
    return Verdict(None, "similarity", detail, tuple(judgements), best.risk, 1.0)


def _by_record(
    judgements: Sequence[Judgement],
    able: Sequence[Judgement],
    delta: float,
    tracks: Mapping[int, Track],
    chance: float,
) -> Verdict:
    """vCache: the nearest, unless its record says that it is to be explored this time."""
    best = max(able, key=lambda each: each.candidate.similarity)
    track = tracks.get(best.candidate.entry_id)
    tau = verified.chance_to_explore(track.seen if track else (), best.candidate.similarity, delta)
    detail = f"explored with probability {tau:.4f}"
    if chance > tau:
        return Verdict(best.candidate, "verified", detail, tuple(judgements), best.risk, 1.0)
    return Verdict(None, "explore", detail, tuple(judgements), best.risk, 1.0)


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
