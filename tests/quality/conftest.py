"""Small data of the benchmark's form, in words of our own, and real models small enough for it."""

import gzip
import json
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgecache.cache import features, scorer
from edgecache.cache.scorer import Scorer
from edgecache.embed.base import Matrix, Pair, TokenIds
from edgecache.embed.hashing import HashingEmbedder
from edgecache.quality import datasets
from edgecache.quality.datasets import Stream
from edgecache.quality.kit import Kit

FRAMES = (
    ("where can i buy {} in {}", "in {1} where can i buy {0}", "{1} where to buy {0}"),
    ("how long does {} keep in {}", "in {1} how long does {0} keep", "{1} how long {0} does keep"),
)
THINGS = ("bread", "cheese", "tea", "honey", "fish", "rice", "soap", "wool")
PLACES = ("Ulm", "Bern", "Riga", "Cork", "Nice", "Graz")


def wordings() -> list[tuple[str, str, list[str]]]:
    """(frame, set, wordings): the wordings of a set have one answer."""
    return [
        (frame[0], f"{number}-{thing}-{place}", [form.format(thing, place) for form in frame])
        for number, frame in enumerate(FRAMES)
        for thing in THINGS
        for place in PLACES
    ]


def write(path: Path, rows: list[dict[str, object]]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two streams, pairs of every kind of set, and further questions."""
    home = tmp_path_factory.mktemp("data")
    chance = random.Random(1)
    sets = wordings()
    asked, rest = sets[:60], sets[60:]
    once = [(text, name) for _, name, texts in asked for text in texts]
    chance.shuffle(once)
    again = [(texts[chance.randrange(2)], name) for _, name, texts in chance.choices(asked, k=200)]
    for name, rows in (("stream_paraphrase", once), ("stream_repeat", again)):
        write(home / f"{name}.jsonl.gz", [{"prompt": text, "set": answer} for text, answer in rows])
    pairs = [{"set": "qqp", "a": texts[0], "b": texts[1], "label": 1} for _, _, texts in [*asked, *rest]] + [
        {"set": "qqp", "a": one[2][0], "b": other[2][1], "label": 0}
        for part in (asked, rest)
        for one, other in pairwise(part)
    ]
    pairs += [{"set": "checklist:number", "a": f"are {n} cats enough", "b": f"are {n + 1} cats enough", "label": 0}
              for n in range(20)]  # fmt: skip
    pairs += [{"set": "checklist:swap", "a": f"is tea {n} like milk", "b": f"is milk like tea {n}", "label": 1}
              for n in range(20)]  # fmt: skip
    pairs += [{"set": "mrpc", "a": f"the {n} dogs bark", "b": f"{n} dogs bark", "label": n % 2} for n in range(20)]
    write(home / "pairs.jsonl.gz", pairs)
    write(home / "banking77.jsonl.gz", [{"text": f"my card {n} is gone", "intent": "card"} for n in range(30)])
    return home


@pytest.fixture(scope="session")
def paraphrase(folder: Path) -> Stream:
    return datasets.read_stream(folder / "stream_paraphrase.jsonl.gz")


@pytest.fixture(scope="session")
def repeat(folder: Path) -> Stream:
    return datasets.read_stream(folder / "stream_repeat.jsonl.gz")


SMALL = frozenset({"where", "can", "i", "in", "to", "how", "long", "does"})


class SharedWords:
    """A pair engine without weights: the more of the words that matter are shared, the higher its logit."""

    name = "shared-words"
    dimension = 1
    window = 64

    def __init__(self) -> None:
        self.pairs = 0

    def tokenise(self, texts: Sequence[Pair]) -> list[TokenIds]:
        found = []
        for pair in texts:
            one, other = set(pair.one.split()) - SMALL, set(pair.other.split()) - SMALL
            # As many tokens as words; the first says how alike they are.
            found.append([round(100 * len(one & other) / len(one | other | {""})), *[0] * (len(pair.one.split()) - 1)])
        return found

    def encode(self, batch: Sequence[TokenIds]) -> Matrix:
        self.pairs += len(batch)
        return np.array([[(ids[0] - 70) / 5] for ids in batch], np.float32)


@pytest.fixture
def engine() -> SharedWords:
    return SharedWords()


@pytest.fixture(scope="session")
def risks() -> Scorer:
    """Goes by the pair engine's logit alone."""
    weights = [[0.2 if name == "logit" else 0.0] for name in features.NAMES]
    many = len(features.NAMES)
    file = {
        "format": scorer.FORMAT,
        "names": features.NAMES,
        "mean": [0.0] * many,
        "scale": [1.0] * many,
        "low": [-50.0] * many,
        "high": [50.0] * many,
        "members": [{"hidden": weights, "bias": [0.0], "out": [-7.0], "shift": 0.0}],
        "slope": 1.0,
        "offset": 0.0,
        "clear": 0.3,
        "identical": 0.001,
    }
    return Scorer.decode(msgspec.json.encode(file))


@pytest.fixture
def kit(tmp_path: Path, engine: SharedWords, risks: Scorer) -> Kit:
    """A whole set of models."""
    return Kit(HashingEmbedder(), tmp_path / "cache", engine=engine, fingerprint="shared-words:1", scorer=risks)


@pytest.fixture
def bare(tmp_path: Path) -> Kit:
    """No verifier."""
    return Kit(HashingEmbedder(), tmp_path / "cache")
