"""The upper rungs of the index ladder: sign-bit codes find candidates, half-precision rows rank them exactly.

Codes are scanned by Hamming distance, in segments so that growing never copies what is there; a large scope gets
inverted lists on top, built elsewhere while searches go on. Not safe for threads: one thread owns an index.
"""

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from edgecache.store.flat import Found, Ids, best
from edgecache.store.schema import Half, Single

Codes = NDArray[np.uint8]

SEGMENT_BITS = 16
SEGMENT = 1 << SEGMENT_BITS
CANDIDATES = 64
_BLOCK = 4096


def codes_of(rows: Half) -> Codes:
    """One bit a component: 0 where it is negative."""
    # The top bit of a half-precision number is its sign.
    return np.packbits(rows.view(np.uint16) < 0x8000, axis=1)


class _Segment:
    def __init__(self, dimension: int) -> None:
        # Never touched memory is not resident: an almost empty segment costs next to nothing.
        self.rows: Half = np.empty((SEGMENT, dimension), np.float16)
        self.codes: Codes = np.empty((SEGMENT, (dimension + 7) // 8), np.uint8)
        self.ids: Ids = np.empty(SEGMENT, np.int64)
        self.count = 0


@dataclass(frozen=True, slots=True)
class Lists:
    """Inverted lists over the codes of a scope: position by entry id, so they outlive changes of the segments."""

    index: faiss.IndexBinaryIVF
    quantiser: faiss.IndexBinaryFlat
    size: int

    @staticmethod
    def build(codes: Codes, ids: Ids) -> "Lists":
        """Train and fill; CPU seconds per million, on arrays nobody changes: safe in a thread of its own."""
        dimension = codes.shape[1] * 8
        count = max(1, min(4096, int(2 * len(ids) ** 0.5)))
        quantiser = faiss.IndexBinaryFlat(dimension)
        index = faiss.IndexBinaryIVF(quantiser, dimension, count)
        # A fifth of the lists: recall 0.997 of 600 k clustered vectors at half the time of a scan; a sixteenth: 0.978.
        index.nprobe = max(min(16, count), count // 5)
        index.cp.min_points_per_centroid = 1
        index.train(codes[:: max(1, len(codes) // (count * 32))])
        index.add_with_ids(codes, ids)
        return Lists(index, quantiser, len(ids))


class Coded:
    """The vectors of one large scope. `len` is how many."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._segments: list[_Segment] = []
        self._at: dict[int, int] = {}
        self.lists: Lists | None = None
        self.changed = 0
        """Vectors added or removed since `lists` were built (or since `building`)."""
        self._fresh: list[int] | None = None

    def __len__(self) -> int:
        return len(self._at)

    def add(self, ids: Ids, rows: Half) -> None:
        """Append vectors whose ids are not here yet."""
        codes = codes_of(np.ascontiguousarray(rows))
        done = 0
        while done < len(ids):
            number, segment = self._room()
            start, take = segment.count, min(SEGMENT - segment.count, len(ids) - done)
            part, end = slice(done, done + take), start + take
            segment.rows[start:end], segment.codes[start:end] = rows[part], codes[part]
            segment.ids[start:end] = ids[part]
            segment.count = end
            base = number << SEGMENT_BITS
            self._at.update(zip(ids[part].tolist(), range(base + start, base + end), strict=True))
            done += take
        self.changed += len(ids)
        if self.lists is not None:
            self.lists.index.add_with_ids(codes, ids)
        if self._fresh is not None:
            self._fresh += ids.tolist()

    def _room(self) -> tuple[int, _Segment]:
        for number, segment in enumerate(self._segments):
            if segment.count < SEGMENT:
                return number, segment
        self._segments.append(_Segment(self._dimension))
        return len(self._segments) - 1, self._segments[-1]

    def remove(self, ids: Ids) -> int:
        """Drop vectors; how many were here. The last of its segment takes the place of each: nothing dead is left."""
        gone = 0
        for entry_id in ids.tolist():
            position = self._at.pop(entry_id, None)
            if position is None:
                continue
            segment, row = self._segments[position >> SEGMENT_BITS], position & (SEGMENT - 1)
            last = segment.count - 1
            if row != last:
                segment.rows[row], segment.codes[row] = segment.rows[last], segment.codes[last]
                moved = int(segment.ids[last])
                segment.ids[row] = moved
                self._at[moved] = position
            segment.count = last
            gone += 1
        self.changed += gone
        return gone

    def search(self, vector: Single, k: int) -> Found:
        """The `k` nearest among the candidates that the codes propose."""
        code = codes_of(vector.astype(np.float16)[None])
        want = max(CANDIDATES, 4 * k)
        ids, rows = self._scan(code, want) if self.lists is None else self._probe(self.lists, code, want, k)
        return best(ids, rows.astype(np.float32) @ vector, k)

    def _scan(self, code: Codes, want: int) -> tuple[Ids, Half]:
        found = []
        for number, segment in enumerate(self._segments):
            if segment.count:
                distances, at = faiss.knn_hamming(code, segment.codes[: segment.count], min(want, segment.count))
                found.append((distances[0], at[0].astype(np.int64) + (number << SEGMENT_BITS)))
        distances = np.concatenate([pair[0] for pair in found]) if found else np.empty(0, np.int32)
        positions = np.concatenate([pair[1] for pair in found]) if found else np.empty(0, np.int64)
        if len(positions) > want:
            positions = positions[np.argpartition(distances, want)[:want]]
        return self._gather(positions)

    def _probe(self, lists: Lists, code: Codes, want: int, k: int) -> tuple[Ids, Half]:
        # The lists still name what was removed: ask for more until enough of it is here.
        while True:
            _, found = lists.index.search(code, want)
            # Once each: an id that was removed and added again is in the lists twice.
            known = [self._at[entry_id] for entry_id in dict.fromkeys(found[0].tolist()) if entry_id in self._at]
            if len(known) >= min(4 * k, CANDIDATES):
                return self._gather(np.array(known, np.int64))
            if found[0][-1] < 0:
                return self._scan(code, want)  # the lists near the query are used up
            want *= 4

    def _gather(self, positions: Ids) -> tuple[Ids, Half]:
        rows = np.empty((len(positions), self._dimension), np.float16)
        ids = np.empty(len(positions), np.int64)
        numbers = positions >> SEGMENT_BITS
        for number in np.unique(numbers):
            mine = numbers == number
            at = positions[mine] & (SEGMENT - 1)
            segment = self._segments[number]
            rows[mine], ids[mine] = segment.rows[at], segment.ids[at]
        return ids, rows

    def has(self, entry_id: int) -> bool:
        """Whether a vector is here."""
        return entry_id in self._at

    def ids(self) -> Ids:
        """A copy of all ids."""
        parts = [segment.ids[: segment.count] for segment in self._segments]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def piece(self, number: int) -> tuple[Ids, Half] | None:
        """A copy of the ids and rows of one segment."""
        if number >= len(self._segments):
            return None
        segment = self._segments[number]
        return segment.ids[: segment.count].copy(), segment.rows[: segment.count].copy()

    def sample(self, draws: list[float]) -> tuple[Ids, Single]:
        """Stored vectors, one for each draw from [0, 1)."""
        ids = self.ids()
        chosen = ids[[int(draw * len(ids)) for draw in draws]]
        ids, rows = self._gather(np.array([self._at[entry_id] for entry_id in chosen.tolist()], np.int64))
        return ids, rows.astype(np.float32)

    def exact_step(self, step: int, ids: Ids, queries: Single) -> Single | None:
        """The highest exact similarity of each query to other vectors, within one block; None after the last."""
        number, block = divmod(step, SEGMENT // _BLOCK)
        if number >= len(self._segments):
            return None
        segment, part = self._segments[number], slice(block * _BLOCK, (block + 1) * _BLOCK)
        own = segment.ids[: segment.count][part]
        similarities = queries @ segment.rows[: segment.count][part].astype(np.float32).T
        similarities[ids[:, None] == own[None]] = -1.0
        highest: Single = similarities.max(axis=1, initial=-1.0)
        return highest

    def building(self) -> tuple[Codes, Ids]:
        """Copies of what inverted lists are to be built from; from now on, additions are noted for `adopt`."""
        self._fresh = []
        self.changed = 0
        codes = np.concatenate([segment.codes[: segment.count] for segment in self._segments])
        return codes, self.ids()

    def adopt(self, lists: Lists) -> None:
        """Use lists that were built from `building`, brought up to date."""
        fresh = [entry_id for entry_id in self._fresh or [] if entry_id in self._at]
        if fresh:
            at = np.array([self._at[entry_id] for entry_id in fresh], np.int64)
            ids, rows = self._gather(at)
            lists.index.add_with_ids(codes_of(rows), ids)
        self._fresh = None
        self.lists = lists
