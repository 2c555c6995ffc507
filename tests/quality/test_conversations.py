"""Both modes played on small conversations whose right answers are known."""

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgecache.cache import features
from edgecache.cache.scorer import Scorer
from edgecache.embed.base import Matrix, TokenIds
from edgecache.embed.base import Pair as EnginePair
from edgecache.embed.hashing import HashingEmbedder
from edgecache.quality import conversations
from edgecache.quality.conversations import Played, by_similarity, run
from edgecache.quality.datasets import Pair
from edgecache.quality.dialogues import Conversation
from edgecache.quality.kit import Kit
from edgecache.quality.signals import Logits
from edgecache.types import Candidate

BREAD = "Where can cheap bread be bought in Ulm?"
BREAD_TOO = "In Ulm, where can cheap bread be bought?"
BELLS = "How loud are the church bells in Ulm?"
BERN = "And in Bern?"


def embed(texts: list[str]) -> np.ndarray:
    engine = HashingEmbedder()
    return engine.encode(engine.tokenise(texts))


def made(kind: str, first: str, last: str, *answers: str) -> Conversation:
    return Conversation(kind, (first, last), answers)


FOLLOW_UPS = [
    made("follow-up", BREAD, BERN, "bread Ulm", "bread Bern"),
    made("paraphrase", BREAD_TOO, BERN, "bread Ulm", "bread Bern"),
    made("other context", BELLS, BERN, "bells Ulm", "bells Bern"),
    made("repeat", BELLS, BERN, "bells Ulm", "bells Bern"),
]


def play(found: list[Conversation], *, limit: float, floor: float = 0.5) -> tuple[Played, Played]:
    exact, contextual = run(found, embed=embed, judge=by_similarity, limit=limit, floor=floor)
    assert (exact.mode, contextual.mode) == ("exact history", "contextual")
    return exact, contextual


def test_a_follow_up_hits_after_another_wording_only_where_contexts_are_compared() -> None:
    exact, contextual = play(FOLLOW_UPS, limit=0.45)
    assert (exact.hits.count, exact.wrong.count, exact.exact.count, exact.possible.count) == (1, 0, 1, 2)
    assert (contextual.hits.count, contextual.wrong.count, contextual.exact.count) == (2, 0, 1)
    assert contextual.kinds["paraphrase"] == (1, 1, 0)
    assert contextual.kinds["other context"] == (1, 0, 0)
    assert contextual.compared == {"follow-up": 4}
    assert exact.compared == {"exact": 4}
    assert contextual.hits.total == len(FOLLOW_UPS)


def test_a_limit_that_is_too_wide_serves_wrong_answers_and_they_are_counted_per_request_and_shown() -> None:
    _, contextual = play(FOLLOW_UPS, limit=1.0, floor=0.0)
    assert contextual.wrong.count == contextual.kinds["other context"][2] + contextual.kinds["repeat"][2] > 0
    assert contextual.wrong.total == len(FOLLOW_UPS)
    assert contextual.wrong.low < contextual.wrong.rate < contextual.wrong.high
    assert contextual.mistakes[0] == (f"{BELLS} | {BERN}", f"{BREAD} | {BERN}")


def test_a_floor_keeps_far_candidates_out_whatever_the_judge_says() -> None:
    _, contextual = play(FOLLOW_UPS, limit=1.0, floor=0.999)
    assert contextual.hits.count == 1


def test_a_bare_follow_up_misses_in_another_context_in_both_modes() -> None:
    found = [made("bare", BREAD, "Why?", "bread", "1"), made("bare", BELLS, "Why?", "bells", "2")]
    for played in play(found, limit=1.0, floor=-1.0):
        assert played.hits.count == 0
    assert play(found, limit=1.0)[1].compared == {"exact": 2}


def test_a_question_that_stands_alone_hits_after_another_history_only_where_contexts_are_compared() -> None:
    last = "What is the capital of France?"
    found = [
        made("alone", "Does bread freeze well?", last, "bread", "Paris"),
        made("alone again", "How long does a horse live?", last, "horse", "Paris"),
    ]
    exact, contextual = play(found, limit=0.1)
    assert (exact.hits.count, contextual.hits.count) == (0, 1)
    assert contextual.compared == {"alone": 2}


def test_the_result_is_json_with_intervals() -> None:
    for played in play(FOLLOW_UPS, limit=0.45):
        shown = json.loads(json.dumps(played.to_dict()))
        assert shown["hits"].keys() >= {"rate", "low", "high"}
        assert shown["kinds"]["paraphrase"]["wrong"]["count"] == 0


def test_every_text_that_is_compared_can_be_had_before() -> None:
    assert conversations.texts(FOLLOW_UPS) == [
        BERN,
        *(f"{first} | {BERN}" for first in (BREAD, BREAD_TOO, BELLS)),
    ]


class Counting:
    """A pair engine that goes by the words that two texts share, and counts the pairs it was asked about."""

    name = "counting"
    dimension = 1
    window = 60

    def __init__(self) -> None:
        self.asked = 0

    def tokenise(self, texts: Sequence[EnginePair]) -> list[TokenIds]:
        return [
            [len(set(p.one.split()) ^ set(p.other.split())), *range(len(f"{p.one} {p.other}".split()))] for p in texts
        ]

    def encode(self, batch: Sequence[TokenIds]) -> Matrix:
        self.asked += len(batch)
        return np.array([[10.0 - ids[0]] for ids in batch], np.float32)


def scorer() -> Scorer:
    """Goes by the logit alone: certain from 1 on."""
    many = len(features.NAMES)
    file = {
        "format": 1,
        "names": features.NAMES,
        "mean": [0.0] * many,
        "scale": [1.0] * many,
        "low": [-20.0] * many,
        "high": [20.0] * many,
        "members": [
            {
                "hidden": [[float(name == "logit")] for name in features.NAMES],
                "bias": [0.0],
                "out": [-1.0],
                "shift": 0.0,
            }
        ],
        "slope": 9.0,
        "offset": 0.0,
        "clear": 0.2,
        "identical": 0.0005,
    }
    return Scorer.decode(msgspec.json.encode(file))


def test_the_verifier_judges_as_in_a_pop_and_sees_each_pair_once() -> None:
    engine = Counting()
    long = "Is it " + "very " * 60 + "late in Ulm?"
    texts = [*conversations.texts(FOLLOW_UPS), long]
    judge = conversations.by_verifier(texts, Logits(texts, engine, "counting"), scorer())
    asked, near, far = texts[1], texts[2], texts[3]
    candidates = [Candidate(7, 0.9, far), Candidate(8, 0.9, near), Candidate(9, 0.9, asked), Candidate(5, 0.1, near)]
    risks = judge(asked, candidates)
    assert risks[1] < 0.001
    assert risks[0] > 0.5
    assert risks[2] == pytest.approx(0.0005)
    assert risks[3] == 1.0
    assert judge(asked, [Candidate(1, 0.9, long)]) == [1.0]
    before = engine.asked
    assert judge(asked, candidates) == risks
    assert engine.asked == before
    _, contextual = run(FOLLOW_UPS, embed=embed, judge=judge, limit=0.01, floor=0.2)
    assert (contextual.hits.count, contextual.wrong.count) == (2, 0)


@pytest.mark.parametrize("limit", [40, 100])
def test_a_report_has_both_modes_for_each_way_of_judging(tmp_path: Path, limit: int) -> None:
    towns = ["Ulm", "Bern", "Graz", "Lyon"]
    pairs = [
        Pair("qqp", f"Where can bread be bought in {town}?", f"In {town}, where can bread be bought?", same=True)
        for town in towns
    ]
    cosine = ["cosine 0.9", "cosine 0.95"]
    engine = Counting()
    full = Kit(HashingEmbedder(), tmp_path, engine=engine, fingerprint="counting", scorer=scorer())
    for kit, judges in ((Kit(HashingEmbedder(), tmp_path), cosine), (full, [*cosine, "score 0.98"])):
        report = conversations.report(kit, pairs, seed=1, limit=limit, scores=(0.98,))
        named = [(row["by"], row["mode"]) for row in report["rows"]]
        assert named == [(judge, mode) for judge in judges for mode in ("exact history", "contextual")]
        assert json.loads(json.dumps(report)) == report
        assert report["conversations"] == report["rows"][0]["hits"]["total"]
    asked = engine.asked
    assert conversations.report(full, pairs, seed=1, limit=limit, scores=(0.98,)) == report
    assert engine.asked == asked > 0
