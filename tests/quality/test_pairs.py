import json
from pathlib import Path

import numpy as np
import pytest

from edgecache import config
from edgecache.cache.evidence import Segment
from edgecache.quality import datasets, pairs
from edgecache.quality.datasets import Pair
from edgecache.quality.kit import Kit
from edgecache.quality.pairs import Judged

POLICY = config.HitPolicy(budget=0.05, floor=0.3)


@pytest.fixture
def labelled(folder: Path) -> list[Pair]:
    return datasets.read_pairs(folder / datasets.PAIRS)


def judged(kit: Kit, labelled: list[Pair]) -> Judged:
    texts = pairs.texts(labelled)
    return pairs.judge(labelled, texts, kit.vectors(texts), kit.logits(texts), kit.scorer)


def test_every_signal_has_its_say(kit: Kit, labelled: list[Pair]) -> None:
    found = judged(kit, labelled)
    assert set(found.signals) == set(pairs.SIGNALS)
    qqp = found.of(datasets.QQP)
    assert len(qqp.pairs) < len(found.pairs)
    assert {pair.family for pair in qqp.pairs} == {"qqp"}
    right = qqp.signals["score"][qqp.same]
    assert right.min() > qqp.signals["score"][~qqp.same].max()


def test_a_pair_too_far_apart_is_scored_but_never_served(kit: Kit) -> None:
    found = judged(
        kit, [Pair("qqp", "bread Ulm", "Ulm of bread what", same=True), Pair("qqp", "a b", "c d", same=False)]
    )
    far = found.judgements[1]
    assert far.risk == 1.0
    assert found.signals["verifier"][1] > -np.inf


def test_the_report_tells_sets_templates_and_what_is_served(kit: Kit, labelled: list[Pair]) -> None:
    found = pairs.report(judged(kit, labelled), {"no evidence yet": Segment()}, POLICY)
    assert set(found["sets"]) == {"qqp", "mrpc", "checklist"}
    assert found["sets"]["mrpc"]["note"] == pairs.TRAINED_ON
    assert found["sets"]["qqp"]["signals"]["score"]["auc"]["value"] == 1.0
    templates = {each["template"]: each for each in found["templates"]}
    assert templates["number"]["must match"] is False
    assert templates["number"]["auc against real duplicates"]["score"] > 0.9
    assert templates["swap"]["auc against real duplicates"] is None
    assert templates["swap"]["served"]["cosine 0.90"]["total"] == 20
    json.dumps(found)


def test_served_counts_pairs_at_each_cosine(kit: Kit, labelled: list[Pair]) -> None:
    part = judged(kit, labelled).of(datasets.CHECKLIST)
    found = pairs.served(part, {}, POLICY)
    for least in pairs.COSINES:
        assert found[f"cosine {least:.2f}"].count == int((part.signals["cosine"] >= least).sum())


def test_without_a_verifier_there_is_cosine(bare: Kit, labelled: list[Pair]) -> None:
    found = judged(bare, labelled)
    assert set(found.signals) == {"cosine"}
    assert pairs.report(found, {}, POLICY)["sets"]["qqp"]["signals"].keys() == {"cosine"}
