"""One engine thread that turns the texts of many requests into few forward passes.

Batching is natural: whenever the engine is idle it takes what has queued, up to a budget of tokens that keeps a pass
within a share of the deadline; no timer waits for company.
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from edgecache import config
from edgecache.clock import Clock
from edgecache.embed.base import Embedder, Matrix, TokenIds, Vector
from edgecache.embed.waiting import Item, Request, Waiting
from edgecache.errors import BadRequest, EmbedError, EmbedTimeout, TextTooLong
from edgecache.telemetry.metrics import Metrics

__all__ = ["Batcher", "Matrix", "Vector"]

log = logging.getLogger(__name__)

_PASS_SHARE = 1 / 3
"""Of the deadline, for one pass: a text waits for the pass before its own and still has time to spare."""
_LEAST_BUDGET = 64
_FAILURES = 3
"""So many failed passes in a row and the embedder counts as gone."""
_STALL = 1.0
"""A pass that runs for so many seconds holds its callers up for nothing: they fail at once instead."""
_CHARACTERS = 16
"""A text with more characters per token of the window is refused unread: tokenising megabytes takes seconds."""
_SAMPLE = "how long is a question that somebody asks a cache at the edge of a network?"


class Batcher:
    """The way to a vector for everything that runs on the event loop."""

    def __init__(self, embedder: Embedder, settings: config.Embed, metrics: Metrics, clock: Clock) -> None:
        self.embedder = embedder
        self.tolerance = embedder.tolerance
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._waiting = Waiting()
        self._taken: list[Item] = []
        self._budget = settings.max_batch_tokens
        self._thread = threading.Thread(target=self._run, name="embed", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._warm = False
        self._closed = False
        self._failures = 0
        self._busy_since: float | None = None
        metrics.embed_queue.set_function(self._waiting.__len__)

    @property
    def ready(self) -> bool:
        """Warmed up, and neither failing nor stalled."""
        alive = self._warm and not self._closed
        return alive and self._failures < _FAILURES and not self._stalled()

    def start(self) -> None:
        """Start the engine, which warms up first. To be called on the event loop that will call `embed`."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def close(self) -> None:
        """Fail what waits and stop the engine after the pass it is in, at most 5 s later."""
        self._closed = True
        self._waiting.close()
        for item in [*self._waiting.drain(), *self._taken]:
            item.request.fail(EmbedError("the embedder is stopping"))
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    async def embed(self, text: str, *, deadline: float | None = None) -> Vector:
        """The vector of `text` within `deadline` seconds (default: `embed.deadline`).

        A deadline longer than the default marks work that can wait for others. Raises EmbedTimeout (too late, queue
        full), TextTooLong (nothing is ever cut: a prefix is another text), EmbedError (embedder gone).
        """
        usual = self._settings.deadline
        patient = deadline is not None and deadline > usual
        request = await self._request([text], usual if deadline is None else deadline, patient=patient)
        vector: Vector = request.matrix[0]
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

    # ------------------------------------------------------------------------------------------ on the event loop
    async def _request(self, texts: Sequence[str | TokenIds], deadline: float | None, *, patient: bool) -> Request:
        self._admit(patient=patient)
        loop = asyncio.get_running_loop()
        request = Request(loop.create_future(), texts, self.embedder.dimension, patient=patient)
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
            raise EmbedError("the embedder is not running")
        if self._stalled():
            raise EmbedError("the embedder hangs")
        if self._failures >= _FAILURES and (self._busy_since is not None or self._waiting):
            raise EmbedError("the embedder keeps failing")  # one request at a time goes through, to see it recover
        if self._waiting.ahead(patient=patient) >= self._settings.queue:
            raise EmbedTimeout("too many texts wait for a vector")

    def _stalled(self) -> bool:
        since = self._busy_since
        return since is not None and self._clock.monotonic() - since > _STALL

    def _deliver(self, items: Sequence[Item], vectors: Matrix | None) -> None:
        for item in items:
            if item.error is not None or vectors is None:
                item.request.fail(item.error or EmbedError("the embedder died"))
            else:
                item.request.fill(item, vectors[item.row])

    # ------------------------------------------------------------------------------------------ on the engine thread
    def _run(self) -> None:
        try:
            self._warm_up()
            while self._waiting.wait():
                self._taken = self._waiting.take(self._budget, self._read)
                self._hand_over(self._taken, self._vectors(self._taken))
                self._taken = []
        finally:  # also after an error that no one foresaw: nobody may wait for a thread that is gone
            self._closed = True
            self._hand_over([*self._waiting.drain(), *self._taken], None)

    def _warm_up(self) -> None:
        """The first passes are slow; the last also shows what fits into one."""
        try:
            ids = self.embedder.tokenise([_SAMPLE])[0]
            self._budget = 16 * len(ids)
            for size in (1, 16, 16):
                self._pass([ids] * size)
        except EmbedError as error:
            log.warning("the embedder failed to warm up: %s", error)
            self._failures = _FAILURES
        self._warm = True

    def _read(self, item: Item) -> int:
        window = self.embedder.window
        if not item.ids and item.error is None:
            try:
                item.ids = self._tokens(item.text)
            except EmbedError as error:
                item.error = error
        return len(item.ids) or window  # reading what is then refused took its time too

    def _tokens(self, text: str | TokenIds) -> TokenIds:
        window = self.embedder.window
        ids: TokenIds = ()
        if not isinstance(text, str):
            ids = text
        elif len(text) <= window * _CHARACTERS:
            ids = self.embedder.tokenise([text])[0]
        if not 0 < len(ids) <= window:
            raise TextTooLong(f"the text is longer than the {window} tokens that {self.embedder.name} takes")
        return ids

    def _vectors(self, items: Sequence[Item]) -> Matrix | None:
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
            log.warning("embedding %d texts failed: %s", len(rows), error)
            for item in items:
                item.error = item.error or EmbedError(error.message)
            return None

    def _pass(self, batch: Sequence[TokenIds]) -> Matrix:
        begun = self._busy_since = self._clock.monotonic()
        self._failures += 1  # until it has ended well
        try:
            vectors = self.embedder.encode(batch)
        finally:
            self._busy_since = None
        if not np.isfinite(vectors).all():
            raise EmbedError("the embedder returned a vector that is not a number")
        self._failures = 0
        elapsed = self._clock.monotonic() - begun
        self._adapt(sum(map(len, batch)), elapsed)
        self._metrics.embed_pass.observe(elapsed)
        self._metrics.embed_batch.observe(len(batch))
        return vectors

    def _adapt(self, tokens: int, elapsed: float) -> None:
        """Size the next pass by the last one, if that took too long, or less than half of what its size may take."""
        target = self._settings.deadline * _PASS_SHARE
        if elapsed > target or elapsed < target * tokens / self._budget / 2:
            fit = int(tokens * target / max(elapsed, 1e-6))
            self._budget = min(max(fit, _LEAST_BUDGET), self._settings.max_batch_tokens)

    def _hand_over(self, items: Sequence[Item], vectors: Matrix | None) -> None:
        """Wake the event loop once for all of `items`."""
        if items and self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._deliver, items, vectors)
