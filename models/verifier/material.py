"""What the cross-encoder learns from, with weights: labelled pairs, what follows from them, neighbours, and edits."""

import random
from pathlib import Path

import faiss
from sentence_transformers import SentenceTransformer

from models.verifier.augment import SAME, another_modifier, different, proper_names, reversed_active
from models.verifier.data import Pair, Split, closures, questions

_RARE = {"narrower": 0.3, "modifier": 0.3, "asked": 0.5, "roles": 0.5}
"""Edits that apply to nearly every question are made of fewer."""
_CROSSED = frozenset({"number", "name", "opposite", "negate"})


def material(parts: Split, base: Path, seed: int) -> list[tuple[Pair, float]]:
    """Everything to learn from; a weight says how far a kind of label is trusted."""
    pairs = parts.train
    texts = questions(pairs)
    edits = made(texts, proper_names(texts), seed, share=0.16)
    kinds = {
        "labelled": (pairs, 1.0),
        "duplicates of duplicates": (closures(pairs, seed), 0.7),
        "neighbours": (neighbours(texts, parts, base, seed), 0.6),
        "edits": (edits, 0.7),
        "edits of a duplicate": (crossed(pairs, edits), 0.6),
        "mrpc and sick": (parts.other, 0.4),
    }
    print({name: len(found) for name, (found, _) in kinds.items()}, flush=True)
    return [(pair, weight) for found, weight in kinds.values() for pair in found]


def neighbours(texts: list[str], parts: Split, base: Path, seed: int) -> list[Pair]:
    """For each question one near neighbour that no label calls a duplicate: what a cache meets every day.

    Some are duplicates that nobody labelled, the more the nearer; hence the upper limit and the lower weight.
    """
    linked = {frozenset((pair.a, pair.b)) for pair in parts.train}
    vectors = SentenceTransformer(str(base), device="cpu").encode(
        texts, batch_size=128, normalize_embeddings=True, show_progress_bar=False
    )
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    scores, found = index.search(vectors, 8)
    chance = random.Random(seed)
    pairs: dict[frozenset[str], Pair] = {}
    for text, near, by in zip(texts, found, scores, strict=True):
        others = [
            texts[j]
            for score, j in zip(by, near, strict=True)
            if 0.5 < score < 0.93
            and parts.duplicates[texts[j]] != parts.duplicates[text]
            and frozenset((text, texts[j])) not in linked
        ]
        for other in chance.sample(others, min(len(others), 1)):
            pairs[frozenset((text, other))] = Pair(text, other, 0, "neighbour")
    return list(pairs.values())


def made(texts: list[str], names: list[str], seed: int, share: float) -> list[Pair]:
    """Edits of questions: others and equals, of about `share` of the questions for each kind that applies."""
    chance = random.Random(seed)
    pairs = []
    for text in texts:
        for kind, edit in different(names).items():
            if chance.random() < share * _RARE.get(kind, 1.0) and (new := edit(text, chance)) and new != text:
                pairs.append(Pair(text, new, 0, kind))
        if chance.random() < share * 0.2 and (both := another_modifier(text, chance)):
            pairs.append(Pair(*both, 0, "modifier"))
        if turned := reversed_active(text):
            pairs += [Pair(text, turned[0], 1, "passive"), Pair(text, turned[1], 0, "roles")]
        for kind, edit in SAME.items():
            if chance.random() < share * 0.5 and (new := edit(text, chance)) and new != text:
                pairs.append(Pair(text, new, 1, kind))
    return pairs


def crossed(pairs: list[Pair], edits: list[Pair]) -> list[Pair]:
    """A duplicate of an edited question asks something else too, in other words."""
    twin = {}
    for pair in pairs:
        if pair.label:
            twin[pair.a], twin[pair.b] = pair.b, pair.a
    return [
        Pair(twin[edit.a], edit.b, 0, "crossed")
        for edit in edits
        if not edit.label and edit.a in twin and edit.origin in _CROSSED
    ]
