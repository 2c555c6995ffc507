"""What people say of answers: feedback on a request or an entry, and an operator's pins and bans.

Bad on a hit by meaning ends that pair of questions at once; the entry goes on serving its own question and other
wordings. Bad on an answer to one's own question, or on an entry, removes the entry. Whatever is acknowledged is
durable. Saying the same twice counts once; saying the opposite replaces what was said.
"""

import asyncio
from typing import Any, Literal

import msgspec

from edgecache.cache.evidence import Label
from edgecache.clock import Clock
from edgecache.errors import NotFound, StoreError
from edgecache.pipeline import lesson
from edgecache.pipeline.learner import Learner
from edgecache.pipeline.sightings import Sightings
from edgecache.store.entries import EntryStore
from edgecache.store.epochs import Kind, Selector
from edgecache.store.rows import Mark, MarkName, Origin, Serve, Word
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Entry

_RECENT = 50
"""Bad pairs that a report lists."""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What feedback has done: `pair-evicted`, `pair-confirmed`, `answer-purged`, `answer-confirmed`, or `noted`.

    `noted` means that a word to the contrary stands: an operator's, or another client's that it was bad.
    """

    verdict: Literal["good", "bad"]
    effect: str
    entry: int | None = None
    request_id: str | None = None


class Feedback:
    """Takes verdicts of clients and decisions of operators."""

    def __init__(
        self, store: EntryStore, learner: Learner, sightings: Sightings, *, clock: Clock, metrics: Metrics
    ) -> None:
        self._store = store
        self._evidence = store.evidence
        self._learner = learner
        self._sightings = sightings
        self._clock = clock
        self._metrics = metrics
        self._turn = (
            asyncio.Lock()
        )  # one verdict at a time: what was said before is durable when the next one is weighed

    # ------------------------------------------------------------------------------------------ verdicts

    async def on_request(
        self, tenant: str, request_id: str, *, good: bool, note: str = "", origin: Origin = "feedback"
    ) -> Outcome:
        """A verdict on the answer that a request of `tenant` got.

        Raises NotFound when no such request is remembered, and StoreError when it cannot be made durable.
        """
        serve = self._evidence.serve(tenant, request_id)
        window = self._learner.config.cache.learning.feedback_window
        if serve is None or serve.at < self._clock.now() - window:
            raise NotFound(
                "No request of this id is remembered: it is not yours, too long ago, or passed the cache by."
            )
        async with self._turn:
            return await self._on_serve(serve, request_id, good=good, note=note, origin=origin)

    async def _on_serve(self, serve: Serve, request_id: str, *, good: bool, note: str, origin: Origin) -> Outcome:
        stands = True
        if serve.own:
            if serve.said is not good:
                stands = await self._answer(serve.tenant, serve.entry, good=good, note=note, origin=origin)
                serve.said = good if stands else serve.said
            effect = "answer-confirmed" if good else "answer-purged"
        else:
            if serve.said is not good:
                await self._pair(serve, good=good, note=note, origin=origin)
            stands = self._evidence.word(serve.tenant, serve.entry, serve.question) is good
            effect = "pair-confirmed" if good else "pair-evicted"
        entry = self._store.find(serve.entry)
        found = entry.id if entry is not None else None
        return Outcome(_word(good), effect if stands else "noted", found, request_id)

    async def on_entry(
        self, tenant: str | None, entry_id: int, *, good: bool, note: str = "", origin: Origin = "feedback"
    ) -> Outcome:
        """A verdict on a stored answer itself; with `tenant` None on that of any. Raises NotFound and StoreError."""
        entry = self._entry(tenant, entry_id)
        async with self._turn:
            stands = await self._answer(entry.tenant, entry.digest, good=good, note=note, origin=origin)
        if not stands:
            return Outcome(_word(good), "noted", entry_id)
        return Outcome(_word(good), "answer-confirmed" if good else "answer-purged", entry_id)

    def _entry(self, tenant: str | None, entry_id: int) -> Entry:
        entry = self._store.get(entry_id)
        if entry is None or (tenant is not None and entry.tenant != tenant):
            raise NotFound(f"There is no entry {entry_id}.")
        return entry

    async def _answer(self, tenant: str, digest: bytes, *, good: bool, note: str, origin: Origin) -> bool:
        """A verdict on the answer to its own question. False where an operator's word stands against it."""
        word = Word(tenant, digest, digest, good, origin, self._clock.now(), note)
        if self._evidence.outranked(word):
            return False
        self._metrics.feedback.labels(_word(good)).inc()
        if not good and (entry := self._store.find(digest)) is not None:
            await self._store.purge(Selector(Kind.ENTRY, str(entry.id), tenant))
        # A client's good own answer is what everybody expects: it is remembered only where it takes something back.
        if not good or origin != "feedback" or self._evidence.word(tenant, digest, digest) is not None:
            await self._evidence.write(word=word)
        return True

    async def _pair(self, serve: Serve, *, good: bool, note: str, origin: Origin) -> None:
        """A verdict on a hit by meaning: decides on the pair, and teaches the segment and the entry."""
        name = serve.tenant, serve.namespace, serve.model
        segment, track = self._learner.segment_of(name), self._learner.track(serve.tenant, serve.entry)
        before = serve.said
        if before is not None and serve.lesson is not None:
            lesson.take_back(segment, track, serve.lesson, _label(serve, good=before))
        serve.lesson = lesson.take(segment, track, _label(serve, good=good))
        serve.said = good
        word = Word(serve.tenant, serve.entry, serve.question, good, origin, self._clock.now(), note)
        stands = not self._evidence.outranked(word) and not self._contested(word, before)
        kept = (serve.tenant, serve.entry, track)
        try:
            await self._learner.keep(name, segment, kept, word if stands else None, serve)
        except StoreError:  # not acknowledged: the next attempt starts from what was said before
            lesson.take_back(segment, track, serve.lesson, _label(serve, good=good))
            serve.said, serve.lesson = before, None
            raise
        self._metrics.feedback.labels(_word(good)).inc()
        self._metrics.labels.labels("feedback", "right" if good else "wrong").inc()

    def _contested(self, word: Word, before: bool | None) -> bool:  # noqa: FBT001 - what the same client said before
        """Whether a client calls good what another client called bad: one takes back one's own word only."""
        said = self._evidence.word(word.tenant, word.entry, word.question)
        return word.good and word.origin == "feedback" and said is False and before is not False

    # ------------------------------------------------------------------------------------------ marks

    async def mark(self, entry_id: int, mark: MarkName | None) -> dict[str, Any]:
        """Pin or ban an entry, or with None release it; also one that is gone, if it was marked under this id.

        Raises NotFound and StoreError.
        """
        entry = self._store.get(entry_id)
        known = self._evidence.mark(entry.digest) if entry is not None else self._marked(entry_id)
        if entry is not None:
            tenant, digest, question = entry.tenant, entry.digest, entry.text
        elif known is not None:
            tenant, digest, question = known.tenant, known.digest, None
        else:
            raise NotFound(f"There is no entry {entry_id}.")
        if mark is not None:
            await self._evidence.set_mark(Mark(tenant, digest, mark, entry_id, self._clock.now()))
            if mark == "pin" and entry is not None:
                await self._sightings.pinned(entry)
        elif known is not None:
            await self._evidence.release(known)
        return {"entry": entry_id, "mark": mark, "question": question}

    def _marked(self, entry_id: int) -> Mark | None:
        return next((mark for mark in self._evidence.marks() if mark.entry_id == entry_id), None)

    def report(self) -> dict[str, Any]:
        """The learner's report, the bad pairs of late with what was said of them, and all marks."""
        marks = [
            {"entry": mark.entry_id, "mark": mark.mark, "tenant": mark.tenant, "at": mark.at}
            for mark in self._evidence.marks()
        ]
        return self._learner.report() | {
            "bad": [self._told(word) for word in self._evidence.bad(_RECENT)],
            "marks": marks,
        }

    def _told(self, word: Word) -> dict[str, Any]:
        """A bad pair for a reader; the questions as far as answers to them are stored."""
        entry, asked = self._store.find(word.entry), self._store.find(word.question)
        return {
            "tenant": word.tenant,
            "entry": entry.id if entry is not None else None,
            "stored": entry.text if entry is not None else None,
            "asked": asked.text if asked is not None else None,
            "origin": word.origin,
            "at": word.at,
            "note": word.note,
        }


def _label(serve: Serve, *, good: bool) -> Label:
    return Label(serve.similarity, serve.risk, good, hit=True, sampled=False)


def _word(good: bool) -> Literal["good", "bad"]:  # noqa: FBT001 - private, and named after what it takes
    return "good" if good else "bad"
