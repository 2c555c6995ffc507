"""Learning whether semantic hits are right: stored answers are compared with answers that come from upstream.

Two sources. A miss with a near candidate brings an answer anyway: comparing it costs no upstream request. A share of
the hits that were served is answered upstream once more, in the background. No client waits for any of it, and what
cannot be compared is left out.
"""

import random

import msgspec

from edgecache.cache.evidence import Label
from edgecache.pipeline import fill
from edgecache.pipeline.agreement import Comparer
from edgecache.pipeline.fetch import Fetcher
from edgecache.pipeline.fill import Landed, Ticket
from edgecache.pipeline.guard import CacheSide
from edgecache.pipeline.learner import Learner
from edgecache.pipeline.lookup import Found
from edgecache.store.entries import EntryStore
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Entry, Judgement
from edgecache.wire.answers import Finished

_HOPELESS = 0.9
"""Prior risk from which a candidate of a miss teaches nothing: it would not be served under any evidence."""
_AT_ONCE = 8
"""Comparisons of misses at once; each may embed some dozens of sentences."""


class _Pair(msgspec.Struct, frozen=True):
    """A stored answer that is to be compared: its entry, what was held of it, and whether it was a hit."""

    entry: Entry
    judgement: Judgement
    hit: bool
    source: str


class Shadow:
    """Compares answers in the background and tells the learner. `close` ends it: nothing new begins after that."""

    def __init__(
        self,
        store: EntryStore,
        learner: Learner,
        comparer: Comparer,
        fetcher: Fetcher,
        cache_side: CacheSide,
        tasks: Tasks,
        *,
        metrics: Metrics,
        rng: random.Random,
    ) -> None:
        self._store = store
        self._learner = learner
        self._comparer = comparer
        self._fetcher = fetcher
        self._cache_side = cache_side
        self._tasks = tasks
        self._metrics = metrics
        self._random = rng
        self._asking = 0
        self._comparing = 0
        self._closed = False

    def close(self) -> None:
        """The POP is draining: upstream requests that nobody waits for stop here."""
        self._closed = True

    def watch(self, ticket: Ticket, near: Found) -> Landed:
        """What to do when the answer to a miss has ended well; `near` is what the semantic lookup found."""
        pair = self._of_miss(ticket, near)

        def landed(finished: Finished, stored: Entry | None) -> None:
            if stored is not None:
                self._learner.answered(ticket.call.request_id, ticket.key, stored)
            if pair is None or self._closed:
                return
            if self._comparing >= _AT_ONCE:
                self._count(pair, "crowded")
            else:
                self._comparing += 1
                self._tasks.spawn(self._learn_of_miss(ticket, pair, finished.body), name="compare")

        return landed

    def sample(self, ticket: Ticket, found: Found) -> None:
        """By chance, have a hit that is being served answered upstream too."""
        learning = ticket.settings.learning
        judgement = _judgement(found, found.entry)
        if self._closed or found.entry is None or judgement is None or ticket.call.controls.only_if_cached:
            return
        if self._random.random() >= learning.sample:
            return
        pair = _Pair(found.entry, judgement, hit=True, source="hit")
        if self._asking >= learning.max_inflight:
            self._count(pair, "crowded")
        else:
            self._asking += 1
            self._tasks.spawn(self._learn_of_hit(ticket, pair), name="sample")

    def _of_miss(self, ticket: Ticket, near: Found) -> _Pair | None:
        if near.ruling is None:
            return None
        if near.would and near.entry is not None and (judgement := _judgement(near, near.entry)) is not None:
            return _Pair(near.entry, judgement, hit=True, source="shadow")
        best = near.ruling.best
        if best is None or not ticket.settings.learning.misses:
            return None
        if best.risk >= _HOPELESS and ticket.decision.policy.policy != "verified":
            return None
        entry = next((entry for entry, _ in near.neighbours if entry.id == best.candidate.entry_id), None)
        return None if entry is None else _Pair(entry, best, hit=False, source="miss")

    async def _learn_of_miss(self, ticket: Ticket, pair: _Pair, fresh: bytes) -> None:
        try:
            await self._compare(ticket, pair, fresh)
        finally:
            self._comparing -= 1

    async def _learn_of_hit(self, ticket: Ticket, pair: _Pair) -> None:
        try:
            with self._cache_side.step("shadow"):
                script = await self._fetcher.again(ticket)
                finished = await fill.read(ticket.call, script) if script.ended else None
                if isinstance(finished, Finished):
                    await self._compare(ticket, pair, finished.body)
                else:
                    self._count(pair, "unfinished")
        finally:
            self._asking -= 1

    async def _compare(self, ticket: Ticket, pair: _Pair, fresh: bytes) -> None:
        with self._cache_side.step("shadow"):
            question, learning = ticket.key.text or "", ticket.settings.learning
            found = await self._comparer.compare(ticket.call, question, pair.entry.body, fresh, learning)
            if self._store.get(pair.entry.id) is None:  # purged or replaced meanwhile: its evidence went with it
                self._count(pair, "gone")
                return
            self._count(pair, found.by if found.right is None else "right" if found.right else "wrong")
            if found.right is not None:
                held = pair.judgement
                label = Label(held.candidate.similarity, held.risk, right=found.right, hit=pair.hit)
                await self._learner.learn(ticket.key, pair.entry, label)

    def _count(self, pair: _Pair, outcome: str) -> None:
        self._metrics.comparisons.labels(pair.source, outcome).inc()


def _judgement(found: Found, entry: Entry | None) -> Judgement | None:
    """What was held of the candidate that was accepted."""
    if found.ruling is None or entry is None:
        return None
    return next((each for each in found.ruling.verdict.judgements if each.candidate.entry_id == entry.id), None)
