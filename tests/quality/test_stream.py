import random

import msgspec
import numpy as np
import pytest

from edgecache import config
from edgecache.cache import verified
from edgecache.quality.datasets import Stream, stream
from edgecache.quality.kit import Kit
from edgecache.quality.orders import shuffled
from edgecache.quality.stream import Filled, Played, Rules, Tier, play

SIMILARITY = config.HitPolicy(policy="similarity", similarity=0.8, floor=0.3)
LOOSE = config.HitPolicy(policy="similarity", similarity=0.7, floor=0.3)
BUDGET = config.HitPolicy(budget=0.05, floor=0.3)
FIXED = Rules("cosine", SIMILARITY, sample=0.0, misses=False)


def by_cosine(vectors: np.ndarray, asked: Stream, order: list[int], least: float) -> tuple[list[int], list[bool]]:
    """What a fixed cosine serves, written anew."""
    entries: dict[int, str] = {}
    tiers, wrong = [], []
    for i in order:
        question, name = asked.asked[i], asked.sets[i]
        if question in entries:
            tiers.append(int(Tier.EXACT))
            wrong.append(entries[question] != name)
            continue
        scored = [(float(vectors[entry] @ vectors[question]), entry) for entry in entries]
        best = max(scored, default=(-1.0, -1), key=lambda each: each[0])
        if best[0] >= least:
            tiers.append(int(Tier.SEMANTIC))
            wrong.append(entries[best[1]] != name)
        else:
            entries[question] = name
            tiers.append(int(Tier.MISS))
            wrong.append(False)
    return tiers, wrong


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_a_fixed_cosine_serves_what_brute_force_serves(kit: Kit, repeat: Stream, seed: int | None) -> None:
    room = kit.room(repeat)
    order = list(range(len(repeat.asked))) if seed is None else shuffled(len(repeat.asked), seed)
    # Hashed words give many equal similarities; a little noise makes the nearest one clear.
    noise = np.random.default_rng(0).normal(scale=1e-3, size=room.vectors.shape).astype(np.float32)
    room.vectors = room.vectors + noise
    room.neighbours = type(room.neighbours).among(room.vectors)
    played = play(room, repeat, FIXED, seed=0, order=order)
    tiers, wrong = by_cosine(room.vectors, repeat, order, 0.8)
    assert played.tiers.tolist() == tiers
    assert played.wrong.tolist() == wrong
    assert {Tier.EXACT, Tier.SEMANTIC, Tier.MISS} <= set(tiers)
    assert any(wrong)


def test_an_exact_cache_hits_repeats_and_nothing_else(kit: Kit, repeat: Stream, paraphrase: Stream) -> None:
    for asked in (repeat, paraphrase):
        played = play(kit.room(asked), asked, Rules("exact", flow="exact"), seed=0)
        assert played.hits == asked.repeats
        assert played.wrong_hits.count == 0
        assert played.entries == len(asked.texts)


def test_the_default_policy_hits_other_wordings_and_keeps_a_wide_budget(kit: Kit, paraphrase: Stream) -> None:
    played = play(kit.room(paraphrase), paraphrase, Rules("budget", BUDGET), seed=0)
    assert played.tier(Tier.SEMANTIC)[0].count > 20
    assert played.wrong_hits.rate <= 0.05
    assert played.entries == played.requests - played.hits.count
    assert played.segment.requests == played.requests
    assert played.estimate.hits == played.hits.count - played.tier(Tier.EXACT)[0].count


def test_a_play_is_the_same_for_the_same_seed(kit: Kit, repeat: Stream) -> None:
    room = kit.room(repeat)
    one, two = (play(room, repeat, Rules("budget", BUDGET), seed=3) for _ in range(2))
    assert one.tiers.tolist() == two.tiers.tolist()
    assert msgspec.to_builtins(one.segment) == msgspec.to_builtins(two.segment)


def test_without_a_verifier_only_equal_words_hit(bare: Kit) -> None:
    asked = stream("s", [("Why is it so?", "1"), ("why is it so", "1"), ("it is so why", "1"), ("Why is it so?", "1")])
    played = play(bare.room(asked), asked, Rules("budget", BUDGET), seed=0)
    assert played.tiers.tolist() == [Tier.MISS, Tier.IDENTICAL, Tier.MISS, Tier.EXACT]


def test_labels_come_from_misses_and_from_sampled_hits_alone(kit: Kit, paraphrase: Stream) -> None:
    room = kit.room(paraphrase)
    silent = play(room, paraphrase, Rules("b", BUDGET, sample=0.0, misses=False), seed=0)
    assert (silent.labels, silent.explored) == (0, 0)
    misses = play(room, paraphrase, Rules("b", BUDGET, sample=0.0), seed=0)
    assert misses.labels == misses.explored > 0
    assert misses.segment.right + misses.segment.wrong == 0
    hits = play(room, paraphrase, Rules("b", BUDGET, sample=1.0, misses=False), seed=0)
    assert hits.labels == hits.hits.count
    assert hits.segment.wrong == hits.wrong_hits.count


def test_a_pair_found_wrong_is_not_served_again(kit: Kit) -> None:
    asked = stream("s", [("tea in Ulm", "1"), ("in Ulm tea", "2"), ("in Ulm tea", "2"), ("in Ulm tea", "2")])
    room = kit.room(asked)
    fixed = play(room, asked, Rules("c", LOOSE, sample=0.0, misses=False), seed=0)
    learned = play(room, asked, Rules("c", LOOSE, sample=1.0), seed=0)
    assert fixed.wrong.tolist() == [False, True, True, True]
    assert learned.wrong.tolist() == [False, True, False, False]
    assert learned.tiers.tolist() == [Tier.MISS, Tier.SEMANTIC, Tier.MISS, Tier.EXACT]


def test_entries_that_were_there_before_serve(kit: Kit) -> None:
    asked = stream("s", [("tea in Ulm", "1"), ("tea in Ulm", "1")])
    room = kit.room(asked, ["in Ulm tea", "fish in Cork"])
    played = play(room, asked, Rules("c", LOOSE, sample=0.0, misses=False), seed=0, filled=Filled((1, 2), ("1", "9")))
    assert played.tiers.tolist() == [Tier.SEMANTIC, Tier.SEMANTIC]
    assert not played.wrong.any()


def test_vcache_has_no_exact_tier_and_explores_by_its_rule(kit: Kit, repeat: Stream) -> None:
    room = kit.room(repeat)
    policy = config.HitPolicy(policy="verified", delta=0.2)
    played = play(room, repeat, Rules("v", policy, "vcache"), seed=5)
    chance = random.Random(5)
    entries: dict[int, str] = {}
    seen: dict[int, list[tuple[float, bool]]] = {}
    tiers = []
    for question, name in zip(repeat.asked, repeat.sets, strict=True):
        present = np.zeros(len(room.texts), np.bool_)
        present[list(entries)] = True
        near = [(question, 1.0)] if question in entries else [
            (each.entry_id, each.similarity) for each in room.near(question, present, 1, -1.0)
        ]  # fmt: skip
        if not near:
            entries[question] = name
            tiers.append(int(Tier.MISS))
            continue
        entry, similarity = near[0]
        tau = verified.chance_to_explore(seen.get(entry, []), similarity, 0.2)
        if chance.random() > tau:
            tiers.append(int(Tier.SEMANTIC))
            continue
        right = entries[entry] == name
        seen.setdefault(entry, []).append((similarity, right))
        if not right:
            entries[question] = name
        tiers.append(int(Tier.MISS))
    assert played.tiers.tolist() == tiers
    assert played.tier(Tier.EXACT)[0].count == 0


def test_a_play_tells_itself(kit: Kit, repeat: Stream) -> None:
    played = play(kit.room(repeat), repeat, FIXED, seed=0)
    told = played.to_dict()
    assert sum(each["hits"]["count"] for each in told["tiers"].values()) == told["hits"]["count"]
    assert sum(each["wrong"] for each in told["tiers"].values()) == told["wrong"]["count"]
    course = played.course(4)
    assert course[-1]["requests"] == played.requests
    assert course[-1]["hit_rate"] == round(played.hits.rate, 6)
    assert isinstance(played, Played)
