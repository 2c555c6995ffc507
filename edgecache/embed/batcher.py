"""An engine's thread, which turns the texts of many requests into few forward passes.

Batching is natural: whenever the engine is idle it takes what has queued, up to a budget of tokens that keeps a pass
within a share of the deadline; no timer waits for company. `Batches` is all of that, for whatever the engine computes;
`Batcher` is the embedder's, `verifier.Verifier` the pair verifier's. Two of them take turns if they are given one lock:
together they then take no more cores than `embed.threads` says, and each pass is timed for what it costs.
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from prometheus_client import Gauge, Histogram

from edgecache import config
from edgecache.clock import Clock
from edgecache.embed.base import Embedder, Engine, Matrix, Pair, TokenIds, Vector
from edgecache.embed.waiting import Item, Request, Waiting
from edgecache.errors import BadRequest, EmbedError, EmbedTimeout, TextTooLong
from edgecache.telemetry.metrics import Metrics

__all__ = ["Batcher", "Batches", "Matrix", "Meters", "Vector"]

log = logging.getLogger(__name__)

_PASS_SHARE = 1 / 3
"""Of the deadline, for one pass: a text waits for the pass before its own and still has time to spare."""
_LEAST_BUDGET = 64
_FAILURES = 3
"""So many failed passes in a row and the engine counts as gone."""
_STALL = 1.0
"""A pass that runs for so many seconds holds its callers up for nothing: they fail at once instead."""
_CHARACTERS = 16
"""A text with more characters per token of the window is refused unread: tokenising megabytes takes seconds."""
SAMPLE = "how long is a question that somebody asks a cache at the edge of a network?"
"""What engines warm up on."""

T = TypeVar("T", bound=str | Pair)


class Meters(NamedTuple):
    """Where passes are counted: texts and seconds of each, and what waits."""

    batch: Histogram
    seconds: Histogram
    queue: Gauge


class Batches(Generic[T]):
    """One engine with its thread and its queue. Subclasses are the way in for what runs on the event loop."""

    def __init__(
        self,
        engine: Engine[T],
        sample: T,
        settings: config.Embed,
        meters: Meters,
        clock: Clock,
        *,
        what: str,
        turn: "threading.Lock | None" = None,  # quoted: a function until Python 3.13
    ) -> None:
        """`sample` is what it warms up on, `what` its name in errors, `turn` is held during a pass."""
        self.turn = turn or threading.Lock()
        self._engine = engine
        self._sample = sample
        self._what = what
        self._settings = settings
        self._meters = meters
        self._clock = clock
        self._waiting = Waiting()
        self._taken: list[Item] = []
        self._budget = settings.max_batch_tokens
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._warm = False
        self._closed = False
        self._failures = 0
        self._busy_since: float | None = None
        meters.queue.set_function(self._waiting.__len__)

    @property
    def ready(self) -> bool:
        """Warmed up, and neither failing nor stalled."""
        alive = self._warm and not self._closed
        return alive and self._failures < _FAILURES and not self._stalled()

    def start(self) -> None:
        """Start the engine, which warms up first. To be called on the event loop that its callers run on."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def close(self) -> None:
        """Fail what waits and stop the engine after the pass it is in, at most 5 s later."""
        self._closed = True
        self._waiting.close()
        for item in [*self._waiting.drain(), *self._taken]:
            item.request.fail(EmbedError(f"the {self._what} is stopping"))
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    # ------------------------------------------------------------------------------------------ on the event loop
    async def _soon(self, texts: Sequence[T], deadline: float | None) -> Request:
        """The rows of `texts` within `deadline` (default: `embed.deadline`); a longer one can wait for others."""
        usual = self._settings.deadline
        patient = deadline is not None and deadline > usual
        return await self._request(texts, usual if deadline is None else deadline, patient=patient)

    async def _request(self, texts: Sequence[T | TokenIds], deadline: float | None, *, patient: bool) -> Request:
        self._admit(patient=patient)
        loop = asyncio.get_running_loop()
        request = Request(loop.create_future(), texts, self._engine.dimension, patient=patient)
        self._waiting.put(request)
        timer = None if deadline is None else loop.call_later(deadline, request.expire)
        try:
            await request.future
        finally:
            if timer is not None:
                timer.cancel()
            if request.missing:
                self._waiting.forget(request)
        return request

    def _admit(self, *, patient: bool) -> None:
        if self._closed or self._loop is None:
            raise EmbedError(f"the {self._what} is not running")
        if self._stalled():
            raise EmbedError(f"the {self._what} hangs")
        if self._failures >= _FAILURES and (self._busy_since is not None or self._waiting):
            raise EmbedError(f"the {self._what} keeps failing")  # one request at a time goes through, to see it recover
        if self._waiting.ahead(patient=patient) >= self._settings.queue:
            raise EmbedTimeout(f"too many texts wait for the {self._what}")

    def _stalled(self) -> bool:
        since = self._busy_since
        return since is not None and self._clock.monotonic() - since > _STALL

    def _deliver(self, items: Sequence[Item], rows: Matrix | None) -> None:
        for item in items:
            if item.error is not None or rows is None:
                item.request.fail(item.error or EmbedError(f"the {self._what} died"))
            else:
                item.request.fill(item, rows[item.row])

    # ------------------------------------------------------------------------------------------ on the engine thread
    def _run(self) -> None:
        try:
            self._warm_up()
            while self._waiting.wait():
                self._taken = self._waiting.take(self._budget, self._read)
                self._hand_over(self._taken, self._rows(self._taken))
                self._taken = []
        finally:  # also after an error that no one foresaw: nobody may wait for a thread that is gone
            self._closed = True
            self._hand_over([*self._waiting.drain(), *self._taken], None)

    def _warm_up(self) -> None:
        """The first passes are slow; the last also shows what fits into one."""
        try:
            ids = self._engine.tokenise([self._sample])[0]
            self._budget = 16 * len(ids)
            for size in (1, 16, 16):
                self._pass([ids] * size)
        except EmbedError as error:
            log.warning("the %s failed to warm up: %s", self._what, error)
            self._failures = _FAILURES
        self._warm = True

    def _read(self, item: Item) -> int:
        window = self._engine.window
        if not item.ids and item.error is None:
            try:
                item.ids = self._tokens(item.text)
            except EmbedError as error:
                item.error = error
        return len(item.ids) or window  # reading what is then refused took its time too

    def _tokens(self, text: Any) -> TokenIds:
        window = self._engine.window
        ids: TokenIds = ()
        if not isinstance(text, str | Pair):
            ids = text
        elif _characters(text) <= window * _CHARACTERS:
            ids = self._engine.tokenise([text])[0]  # type: ignore[list-item]  # each queue holds texts of one kind
        if not 0 < len(ids) <= window:
            raise TextTooLong(f"the text is longer than the {window} tokens that {self._engine.name} takes")
        return ids

    def _rows(self, items: Sequence[Item]) -> Matrix | None:
        """One pass over what is fit for it, the same tokens once; None if there is nothing, or each has its error."""
        rows: dict[tuple[int, ...], int] = {}
        for item in items:
            if item.error is None:
                item.row = rows.setdefault(tuple(item.ids), len(rows))
        if not rows:
            return None
        try:
            return self._pass(list(rows))
        except EmbedError as error:
            log.warning("the %s failed on %d texts: %s", self._what, len(rows), error)
            for item in items:
                item.error = item.error or EmbedError(error.message)
            return None

    def _pass(self, batch: Sequence[TokenIds]) -> Matrix:
        self._busy_since = self._clock.monotonic()  # one that waits for its turn holds its callers up as well
        self._failures += 1  # until it has ended well
        try:
            with self.turn:
                begun = self._clock.monotonic()
                rows = self._engine.encode(batch)
        finally:
            self._busy_since = None
        if not np.isfinite(rows).all():
            raise EmbedError(f"the {self._what} returned what is not a number")
        self._failures = 0
        elapsed = self._clock.monotonic() - begun
        self._adapt(sum(map(len, batch)), elapsed)
        self._meters.seconds.observe(elapsed)
        self._meters.batch.observe(len(batch))
        return rows

    def _adapt(self, tokens: int, elapsed: float) -> None:
        """Size the next pass by the last one, if that took too long, or less than half of what its size may take."""
        target = self._settings.deadline * _PASS_SHARE
        if elapsed > target or elapsed < target * tokens / self._budget / 2:
            fit = int(tokens * target / max(elapsed, 1e-6))
            self._budget = min(max(fit, _LEAST_BUDGET), self._settings.max_batch_tokens)

    def _hand_over(self, items: Sequence[Item], rows: Matrix | None) -> None:
        """Wake the event loop once for all of `items`."""
        if items and self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._deliver, items, rows)


def _characters(text: str | Pair) -> int:
    return len(text) if isinstance(text, str) else sum(map(len, text))


class Batcher(Batches[str]):
    """The way to a vector for everything that runs on the event loop."""

    def __init__(self, embedder: Embedder, settings: config.Embed, metrics: Metrics, clock: Clock) -> None:
        meters = Meters(metrics.embed_batch, metrics.embed_pass, metrics.embed_queue)
        super().__init__(embedder, SAMPLE, settings, meters, clock, what="embedder")
        self.embedder = embedder
        self.tolerance = embedder.tolerance

    async def embed(self, text: str, *, deadline: float | None = None) -> Vector:
        """The vector of `text` within `deadline` seconds (default: `embed.deadline`).

        A deadline longer than the default marks work that can wait for others. Raises EmbedTimeout (too late, queue
        full), TextTooLong (nothing is ever cut: a prefix is another text), EmbedError (embedder gone).
        """
        vector: Vector = (await self._soon([text], deadline)).matrix[0]
        return vector

    async def embed_many(
        self, texts: Sequence[str] | Sequence[TokenIds], *, deadline: float | None = None
    ) -> tuple[Matrix, int]:
        """A vector a row for `texts`, given as text or as this model's own tokens, and the number of tokens in all.

        Waits as long as it takes unless `deadline` (s) is given. Raises as `embed` does, and BadRequest for token ids
        that the model does not have.
        """
        self._check(texts)
        if not texts:
            return np.empty((0, self.embedder.dimension), dtype=np.float32), 0
        request = await self._request(texts, deadline, patient=True)
        return request.matrix, request.tokens

    def _check(self, texts: Sequence[str | TokenIds]) -> None:
        size = self.embedder.vocabulary
        for position, ids in enumerate(texts):
            if not isinstance(ids, str) and not (ids and 0 <= min(ids) <= max(ids) < size):
                raise BadRequest(f"Expected one or more token ids from 0 to {size - 1}.", param=f"input[{position}]")
