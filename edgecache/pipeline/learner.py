"""What this POP has learned of its semantic hits, where requests meet it: lookups ask, comparisons and people tell.

Evidence is kept by tenant, namespace and model (segments), by entry (tracks) and by pair of questions (words). What it
means for a decision is `cache.budget`'s part, where it is stored `store.evidence`'s; feedback is `pipeline.feedback`.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final, TypeVar

import msgspec

from edgecache.cache import budget
from edgecache.cache.evidence import Label, Segment, Track
from edgecache.clock import Clock
from edgecache.config import Config
from edgecache.errors import StoreError
from edgecache.pipeline.gauges import Gauges
from edgecache.store.entries import EntryStore
from edgecache.store.rows import SegmentName, SegmentRow, Serve, Word
from edgecache.telemetry.metrics import Metrics
from edgecache.types import CacheKey, Entry, Verdict

log = logging.getLogger(__name__)

MAX_SEGMENTS: Final = 4096
"""Segments that evidence is kept of. Beyond them the one that was asked for least recently starts again."""
_TICK: Final = 1.0
_SAVE_EVERY: Final = 5
_SLICE: Final = 256
"""Segments encoded in one go: about a millisecond."""
_LISTED: Final = 100

T = TypeVar("T")


class Learner:
    """The evidence of one POP. What lookups ask takes microseconds; what changes evidence is durable when it returns.

    `config` may be replaced while running.
    """

    def __init__(self, store: EntryStore, *, clock: Clock, metrics: Metrics, config: Config) -> None:
        self.config = config
        self._evidence = store.evidence
        self._clock = clock
        self._metrics = metrics
        self._gauges = Gauges(metrics)
        self._segments: dict[SegmentName, Segment] = {}
        self._touched: set[SegmentName] = set()
        self._gone: list[SegmentName] = []
        self._open: dict[bytes, tuple[Track, int]] = {}
        for row in self._evidence.segments():
            if (segment := _decode(row.evidence, Segment)) is not None:
                self._segments[row.name] = segment
        self._evidence.erased = self._erased

    # ------------------------------------------------------------------------------------------ lookups

    def segment(self, key: CacheKey) -> Segment:
        """The evidence of the key's segment; what is changed in it is stored within seconds."""
        return self.segment_of((key.tenant, key.namespace, key.model))

    def segment_of(self, name: SegmentName) -> Segment:
        """The evidence of a segment by name."""
        found = self._segments.get(name)
        if found is None:
            if len(self._segments) >= MAX_SEGMENTS:
                oldest = next(iter(self._segments))
                del self._segments[oldest]
                self._gone.append(oldest)
            found = self._segments[name] = Segment()
        self._touched.add(name)
        return found

    def tracks(self, entries: Iterable[Entry]) -> dict[int, Track]:
        """The record of each entry that has one, by entry id."""
        asked = list(entries)
        stored = self._evidence.tracks((entry.tenant, entry.digest) for entry in asked)
        found = {}
        for entry, raw in zip(asked, stored, strict=True):
            held = self._open.get(entry.digest)
            track = held[0] if held is not None else _decode(raw, Track)
            if track is not None:
                found[entry.id] = track
        return found

    def refused(self, entry: Entry, key: CacheKey) -> str | None:
        """Why `entry` may not serve the request, exactly or by meaning: `banned`, `bad-pair`, or None if it may."""
        if self._marked(entry.digest, "ban"):
            return "banned"
        if entry.digest != key.digest and self._evidence.word(key.tenant, entry.digest, key.digest) is False:
            return "bad-pair"
        return None

    def confirmed(self, entry: Entry, key: CacheKey) -> bool:
        """Whether this very pair was called good, or found right, and nobody banned the entry."""
        good = self._evidence.word(key.tenant, entry.digest, key.digest) is True
        return good and not self._marked(entry.digest, "ban")

    def banned(self, key: CacheKey) -> bool:
        """Whether the answer to this question may not be stored, until an operator releases it."""
        return self._marked(key.digest, "ban")

    def _marked(self, digest: bytes, what: str) -> bool:
        mark = self._evidence.mark(digest)
        return mark is not None and mark.mark == what

    # ------------------------------------------------------------------------------------------ requests

    def served(self, request_id: str, key: CacheKey, entry: Entry, verdict: Verdict) -> None:
        """A semantic hit was given out: counted, and remembered for feedback."""
        budget.served(self.segment(key), verdict.risk)
        similarity = verdict.accepted.similarity if verdict.accepted is not None else 1.0
        risks = (each.risk for each in verdict.judgements if each.candidate.entry_id == entry.id)
        self._remember(request_id, key, entry.digest, next(risks, verdict.risk), similarity)

    def answered(self, request_id: str, key: CacheKey, entry: Entry) -> None:
        """A request got the stored or fresh answer to its own question: remembered for feedback."""
        self._remember(request_id, key, entry.digest, 0.0, 1.0)

    def _remember(self, request_id: str, key: CacheKey, digest: bytes, risk: float, similarity: float) -> None:
        serve = Serve(
            key.tenant, request_id, key.namespace, key.model, digest, key.digest, risk, similarity, self._clock.now()
        )
        self._evidence.served(serve)

    # ------------------------------------------------------------------------------------------ learning

    async def learn(self, key: CacheKey, entry: Entry, label: Label) -> None:
        """A comparison showed that the answer of `entry` is right, or wrong, for the question of `key`.

        After a hit it also decides on this very pair, unless a person has. A pinned entry loses nothing by it.
        """
        self._metrics.labels.labels("shadow" if label.hit else "miss", "right" if label.right else "wrong").inc()
        segment = self.segment(key)
        spared = not label.right and self._marked(entry.digest, "pin")
        track = Track() if spared else self.track(entry.tenant, entry.digest)
        budget.learn(segment, track, label)
        word = None
        if label.hit and not spared:
            word = Word(key.tenant, entry.digest, key.digest, label.right, "shadow", self._clock.now())
        await self.keep(
            (key.tenant, key.namespace, key.model),
            segment,
            None if spared else (entry.tenant, entry.digest, track),
            None if word is None or self._evidence.outranked(word) else word,
        )

    def track(self, tenant: str, digest: bytes) -> Track:
        """The record of an entry; a new one if it has none. What is changed in it is lost unless it is kept."""
        held = self._open.get(digest)
        if held is not None:
            return held[0]
        (raw,) = self._evidence.tracks([(tenant, digest)])
        return _decode(raw, Track) or Track()

    async def keep(
        self,
        name: SegmentName,
        segment: Segment,
        track: tuple[str, bytes, Track] | None,
        word: Word | None,
        serve: Serve | None = None,
    ) -> None:
        """Store what was learned in one commit. `track` is tenant, entry digest and the track itself."""
        ready = None if track is None else (track[0], track[1], msgspec.msgpack.encode(track[2]))
        if track is not None:  # until it is committed, others must see this one and not the stored one
            self._open[track[1]] = track[2], self._open.get(track[1], (track[2], 0))[1] + 1
        try:
            row = SegmentRow(name, msgspec.msgpack.encode(segment))
            await self._evidence.write(segment=row, track=ready, word=word, serve=serve)
        finally:
            if track is not None:
                left = self._open[track[1]][1] - 1
                self._open[track[1]] = track[2], left
                if left == 0:
                    del self._open[track[1]]

    # ------------------------------------------------------------------------------------------ upkeep

    async def run(self, tick: float = _TICK) -> None:
        """Write behind what is not awaited every `tick` seconds, and show the estimates; never returns."""
        turn = 0
        while True:
            await asyncio.sleep(tick)
            turn += 1
            try:
                await self._flush_requests()
                if turn % _SAVE_EVERY == 0:
                    await self._flush_segments()
                    await asyncio.to_thread(self._gauges.show, dict(self._segments), self.config)
            except StoreError as error:
                self._metrics.cache_side_errors.labels("evidence").inc()
                log.warning("evidence could not be stored: %s", error)

    async def flush(self) -> None:
        """Store everything now; raises StoreError."""
        await self._flush_requests()
        await self._flush_segments()

    async def _flush_requests(self) -> None:
        await self._evidence.flush(self._clock.now() - self.config.cache.learning.feedback_window)

    async def _flush_segments(self) -> None:
        touched, self._touched = list(self._touched), set()
        gone, self._gone = self._gone, []
        for start in range(0, len(touched), _SLICE):
            rows = []
            for name in touched[start : start + _SLICE]:
                segment = self._segments.pop(name, None)
                if segment is not None:
                    self._segments[name] = segment  # last in the order of being asked for
                    rows.append(SegmentRow(name, msgspec.msgpack.encode(segment)))
            await self._evidence.keep_segments(rows)
        if gone:
            await self._evidence.keep_segments((), [name for name in gone if name not in self._segments])

    def _erased(self, tenant: str | None) -> None:
        """A purge removed the evidence of a tenant, or all of it."""
        for name in [name for name in self._segments if tenant is None or name[0] == tenant]:
            del self._segments[name]

    def report(self) -> dict[str, Any]:
        """The wrong-hit rate (wrong answers per request served, hit or miss) in total and by segment, busiest first."""
        busiest = sorted(self._segments.items(), key=lambda item: -item[1].requests)[:_LISTED]
        return {
            "total": msgspec.to_builtins(budget.pooled(self._segments.values())),
            "segments": [
                {"tenant": tenant, "namespace": namespace, "model": model}
                | msgspec.to_builtins(budget.estimate(segment))
                | {"labels": segment.labels, "drifted": segment.drifted}
                for (tenant, namespace, model), segment in busiest
            ],
        }


def _decode(raw: bytes | None, kind: type[T]) -> T | None:
    """Evidence as it was stored; None where there is none, or none that this version can read."""
    try:
        return None if raw is None else msgspec.msgpack.decode(raw, type=kind)
    except msgspec.DecodeError:
        return None
