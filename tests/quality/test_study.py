import json

import pytest

from edgecache import config
from edgecache.quality import study
from edgecache.quality.datasets import Stream
from edgecache.quality.kit import Kit
from edgecache.quality.stream import Rules, play
from edgecache.quality.study import Price


def test_a_study_has_columns_and_curves(kit: Kit, repeat: Stream) -> None:
    steps: list[tuple[str, int, int]] = []
    found = study.run(kit.room(repeat), repeat, config.HitPolicy(), seed=0, progress=lambda *step: steps.append(step))
    assert set(found.curves) == {"cosine", "budget", "threshold"}
    assert steps[-1][1] == steps[-1][2]
    names = [each.name for each in found.columns]
    assert names[0] == "exact only"
    assert f"edgecache, budget {0.005:.1%}" in names
    assert found.segment(0.005).requests == len(repeat.asked)
    prompts = study.tokens(kit.embedder, repeat)
    json.dumps(study.to_dict(found, prompts, Price()))
    for played in found.columns:
        assert sum(study.by_tier(played).values()) == pytest.approx(1.0)


def test_without_a_verifier_cosine_alone_is_swept(bare: Kit, repeat: Stream) -> None:
    assert set(study.run(bare.room(repeat), repeat, config.HitPolicy(), seed=0).curves) == {"cosine"}


def test_hindsight_takes_the_most_hits_within_the_limit(kit: Kit, paraphrase: Stream) -> None:
    found = study.run(kit.room(paraphrase), paraphrase, config.HitPolicy(floor=0.3), seed=0)
    best = study.best(found, "cosine", 0.02)
    assert best is not None
    assert best[1].wrong_hits.rate <= 0.02
    able = [played.hits.rate for _, played in found.curves["cosine"] if played.wrong_hits.rate <= 0.02]
    assert best[1].hits.rate == max(able)
    assert study.best(found, "absent", 0.02) is None


def test_only_right_hits_save_and_all_hits_would_save_the_bill(kit: Kit, repeat: Stream) -> None:
    found = study.run(kit.room(repeat), repeat, config.HitPolicy(), seed=0)
    price = Price(answer_tokens=100, prompt=1.0, completion=2.0)
    exact = found.columns[0]
    prompts = [10] * len(repeat.asked)
    saved = study.saved(exact, prompts, price)
    hits = repeat.repeats.count
    assert saved["prompt tokens"] == 10 * hits
    assert saved["completion tokens"] == 100 * hits
    assert saved["dollars"] == pytest.approx(hits * (10 + 200) / 1e6, abs=1e-4)
    assert saved["share of the bill"] == pytest.approx(exact.hits.rate, abs=1e-4)


def test_mistakes_are_the_wrong_hits_with_both_texts(kit: Kit, paraphrase: Stream) -> None:
    room = kit.room(paraphrase)
    policy = config.HitPolicy(policy="similarity", similarity=0.6, floor=0.3)
    played = play(room, paraphrase, Rules("c", policy, sample=0.0, misses=False), seed=0)
    rows = study.mistakes(room, played)
    assert len(rows) == played.wrong_hits.count > 0
    sets = dict(zip(paraphrase.asked, paraphrase.sets, strict=True))
    number = {text: i for i, text in enumerate(paraphrase.texts)}
    for row in rows:
        assert sets[number[row["asked"]]] != sets[number[row["served"]]]
        assert row["similarity"] >= 0.6
    logits = [row["logit"] for row in rows]
    assert logits == sorted(logits, reverse=True)
