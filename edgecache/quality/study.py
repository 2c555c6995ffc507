"""One stream played by every policy and peer: columns to compare, curves over settings, and what hits save."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from edgecache import config
from edgecache.cache.evidence import Segment
from edgecache.embed.base import Embedder
from edgecache.quality import peers
from edgecache.quality.datasets import Stream
from edgecache.quality.room import Room
from edgecache.quality.signals import Progress, silent
from edgecache.quality.stream import Played, Rules, Tier, play

BUDGETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
THRESHOLDS: Final = (0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998)
COSINES: Final = (0.8, 0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.99)


class Price(msgspec.Struct, frozen=True):
    """What is assumed of answers and money: tokens of an answer, and dollars for a million tokens."""

    answer_tokens: int = 200
    prompt: float = 0.15
    completion: float = 0.6


class Study(msgspec.Struct):
    """What came of one stream. `columns` are whole plays, `curves` are plays of one policy at several settings."""

    columns: list[Played]
    curves: dict[str, list[tuple[float, Played]]]

    def budget(self, rate: float) -> Played:
        """The play of the budget policy at `rate`."""
        return dict(self.curves["budget"])[rate]

    def segment(self, rate: float) -> Segment:
        """The evidence at the end of that play."""
        return self.budget(rate).segment


def run(room: Room, stream: Stream, policy: config.HitPolicy, *, seed: int, progress: Progress = silent) -> Study:
    """Play everything in order of arrival. Without a verifier the policies that go by risk are left out."""
    curves = {name: list(rules) for name, rules in _curves(policy, scored=room.scorer is not None).items()}
    columns = peers.policies()
    total = len(columns) + sum(map(len, curves.values()))
    done = 0

    def played(rules: Rules) -> Played:
        nonlocal done
        found = play(room, stream, rules, seed=seed)
        done += 1
        progress(f"plays of {stream.name}", done, total)
        return found

    whole = [played(rules) for rules in columns]
    swept = {name: [(setting, played(rules)) for setting, rules in each] for name, each in curves.items()}
    room.logits.save()
    return Study([*whole, *(each for _, each in swept.get("budget", ()))], swept)


def _curves(policy: config.HitPolicy, *, scored: bool) -> dict[str, Iterable[tuple[float, Rules]]]:
    cosine = [
        (
            least,
            Rules(
                f"cosine {least:.2f}", _like(policy, policy="similarity", similarity=least), sample=0.0, misses=False
            ),
        )
        for least in COSINES
    ]
    if not scored:
        return {"cosine": cosine}
    return {
        "cosine": cosine,
        "budget": [(b, Rules(f"edgecache, budget {b:.1%}", _like(policy, policy="budget", budget=b))) for b in BUDGETS],
        "threshold": [
            (t, Rules(f"edgecache, threshold {t}", _like(policy, policy="threshold", threshold=t))) for t in THRESHOLDS
        ],
    }


def _like(given: config.HitPolicy, **changed: Any) -> config.HitPolicy:
    return msgspec.structs.replace(given, **changed)


def tokens(embedder: Embedder, stream: Stream) -> list[int]:
    """Tokens of each request's question, by the embedder's tokeniser."""
    of_text = [len(ids) for ids in embedder.tokenise(stream.texts)]
    return [of_text[q] for q in stream.asked]


def saved(played: Played, prompts: Sequence[int], price: Price) -> dict[str, Any]:
    """Tokens and money that the right hits of a play spare; a wrong answer is no saving."""
    right = [n for n, (tier, wrong) in enumerate(zip(played.tiers, played.wrong, strict=True)) if tier and not wrong]
    prompt = sum(prompts[n] for n in right)
    completion = len(right) * price.answer_tokens
    cost = (prompt * price.prompt + completion * price.completion) / 1e6
    whole = (sum(prompts) * price.prompt + len(prompts) * price.answer_tokens * price.completion) / 1e6
    return {
        "prompt tokens": prompt,
        "completion tokens": completion,
        "dollars": round(cost, 4),
        "share of the bill": round(cost / whole, 4) if whole else 0.0,
    }


def to_dict(study: Study, prompts: Sequence[int], price: Price) -> dict[str, Any]:
    """JSON-compatible."""
    return {
        "columns": [each.to_dict() | {"saved": saved(each, prompts, price)} for each in study.columns],
        "curves": {
            name: [
                {"setting": setting, "hits": each.hits.to_dict(), "wrong": each.wrong_hits.to_dict()}
                for setting, each in swept
            ]
            for name, swept in study.curves.items()
        },
        "course": {each.name: each.course() for each in study.columns},
    }


def best(study: Study, curve: str, limit: float) -> tuple[float, Played] | None:
    """With hindsight: the setting of a curve with the most hits among those whose wrong-hit rate is within `limit`."""
    able = [each for each in study.curves.get(curve, ()) if each[1].wrong_hits.rate <= limit]
    return max(able, key=lambda each: each[1].hits.rate, default=None)


def by_tier(played: Played) -> dict[str, float]:
    """Shares of all requests."""
    return {tier.name.lower(): played.tier(tier)[0].rate for tier in Tier}


def mistakes(room: Room, played: Played) -> list[dict[str, Any]]:
    """The wrong hits of a play, the surest first: to be read, because many of them are wrong labels."""
    rows = []
    for question, entry in played.served[played.wrong].tolist():
        similarity = float(room.vectors[question] @ room.vectors[entry])
        logit = room.logits.of(question, [entry]).get(entry)
        rows.append(
            {
                "asked": room.texts[question],
                "served": room.texts[entry],
                "similarity": round(similarity, 4),
                "logit": None if logit is None else round(logit, 3),
            }
        )
    return sorted(rows, key=lambda row: -(row["logit"] if row["logit"] is not None else row["similarity"]))
