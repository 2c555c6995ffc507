import random

import numpy as np

from edgecache.cache import verify
from edgecache.quality.datasets import Stream
from edgecache.quality.kit import Kit
from edgecache.quality.room import Room
from edgecache.quality.signals import Neighbours


def brute(room: Room, question: int, present: np.ndarray, many: int, least: float) -> list[tuple[int, float]]:
    entries = [i for i in np.flatnonzero(present).tolist() if i != question]
    scored = sorted(((float(room.vectors[i] @ room.vectors[question]), -i) for i in entries), reverse=True)
    return [(-i, score) for score, i in scored[:many] if score >= least]


def test_the_nearest_entries_are_those_of_brute_force(kit: Kit, paraphrase: Stream) -> None:
    whole = kit.room(paraphrase)
    short = Room(
        whole.texts, whole.vectors, Neighbours.among(whole.vectors, depth=6), whole.logits, whole.scorer
    )  # too short a list for an empty cache
    chance = random.Random(0)
    for room in (whole, short):
        for _ in range(60):
            present = np.array([chance.random() < 0.3 for _ in room.texts])
            question, least = chance.randrange(len(room.texts)), chance.choice([-1.0, 0.2, 0.6])
            found = room.near(question, present, 4, least)
            expected = brute(room, question, present, 4, least)
            np.testing.assert_allclose([each.similarity for each in found], [score for _, score in expected], rtol=1e-5)
            assert all(present[each.entry_id] for each in found)
            assert all(room.texts[each.entry_id] == each.text for each in found)


def test_judgements_are_those_of_the_hit_decision(kit: Kit, paraphrase: Stream) -> None:
    room = kit.room(paraphrase)
    everything = np.ones(len(room.texts), np.bool_)
    for question in range(20):
        near = room.near(question, everything, 8, 0.2)
        asked = verify.doubtful(room.texts[question], near, room.scorer)
        logits = room.logits.of(question, [each.entry_id for each in asked])
        expected = verify.judge(room.texts[question], near, logits, room.scorer)
        for _ in range(2):  # made, then remembered
            found = room.judgements(question, near, scored=True)
            assert [(each.candidate, each.risk) for each in found] == [(each.candidate, each.risk) for each in expected]


def test_a_cosine_policy_asks_no_verifier(kit: Kit, paraphrase: Stream, engine) -> None:
    room = kit.room(paraphrase)
    near = room.near(0, np.ones(len(room.texts), np.bool_), 8, 0.2)
    assert {each.risk for each in room.judgements(0, near, scored=False)} == {1.0}
    assert engine.pairs == 0


def test_what_was_foreseen_is_not_asked_again(kit: Kit, paraphrase: Stream, engine) -> None:
    room = kit.room(paraphrase)
    room.foresee_all()
    asked = engine.pairs
    assert asked > 0
    everything = np.ones(len(room.texts), np.bool_)
    room.foresee(range(50), np.zeros(len(room.texts), np.bool_), 8, 0.5)
    for question in range(50):
        room.judgements(question, room.near(question, everything, 8, 0.5), scored=True)
    assert engine.pairs == asked


def test_without_a_verifier_nothing_is_foreseen(bare: Kit, paraphrase: Stream) -> None:
    room = bare.room(paraphrase)
    room.foresee_all()
    room.foresee([0], np.zeros(len(room.texts), np.bool_), 8, 0.5)
    assert room.logits.asked == 0
