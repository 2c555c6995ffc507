"""Asking another model what has just been answered, to learn whether it would have said the same. Nobody waits for it.

Two uses: a new model that is to be tried out (`router.route.mirror`), and a check on answers of small models, for which
the model that was asked for is asked after all (`router.route.small`). Only answers that may be cached are compared:
the others are drawn by chance, and differ anyway.
"""

import random

import msgspec

from edgecache.config import Learning, Router
from edgecache.errors import ClientError, Overloaded, UpstreamError
from edgecache.pipeline.agreement import Comparer
from edgecache.pipeline.guard import CacheSide
from edgecache.router import routes
from edgecache.router.dispatch import Dispatcher
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from edgecache.types import CacheKey, Call, Purpose, ServiceClass
from edgecache.wire import answers
from edgecache.wire.answers import Finished
from edgecache.wire.jsontext import encode

_AT_ONCE = 4
"""Requests to mirrored models at once; more are left out."""


class Mirrors:
    """Sends a share of answered requests to a second model. `settings` are replaced by a reload."""

    def __init__(
        self,
        comparer: Comparer,
        dispatcher: Dispatcher,
        cache_side: CacheSide,
        tasks: Tasks,
        *,
        settings: Router,
        metrics: Metrics,
        rng: random.Random,
    ) -> None:
        self.settings = settings
        self._comparer = comparer
        self._dispatcher = dispatcher
        self._cache_side = cache_side
        self._tasks = tasks
        self._metrics = metrics
        self._random = rng
        self._asking = 0
        self._closed = False

    def close(self) -> None:
        """The POP is draining: nothing new begins."""
        self._closed = True

    def consider(self, call: Call, key: CacheKey, finished: Finished, learning: Learning, *, small: bool) -> None:
        """By chance, have the answer of `call` compared; `small` = a small model has given it."""
        if self._closed or key.text is None:
            return
        chosen, tenant = self.settings.route, call.tenant.id
        rule = routes.small(chosen, call.model, tenant) if small else routes.mirror(chosen, call.model, tenant)
        if rule is not None and self._random.random() < rule.sample:
            self._start(call, key.text, finished, learning, "" if small else rule.model)

    def _start(self, call: Call, question: str, finished: Finished, learning: Learning, model: str) -> None:
        if self._asking >= _AT_ONCE:
            self._count(model, "crowded")
            return
        self._asking += 1
        self._tasks.spawn(self._compare(call, question, finished, learning, model), name="mirror")

    async def _compare(self, call: Call, question: str, finished: Finished, learning: Learning, model: str) -> None:
        """`model` empty = the one that was asked for."""
        try:
            with self._cache_side.step("mirror"):
                body = await self._ask(asked_again(call, model))
                if body is None:
                    self._count(model, "unanswered")
                    return
                found = await self._comparer.compare(call, question, finished.body, body, learning)
                self._count(model, found.by if found.right is None else "agree" if found.right else "differ")
        finally:
            self._asking -= 1

    async def _ask(self, call: Call) -> bytes | None:
        """A whole answer to `call`, None where there is none."""
        try:
            answer = await self._dispatcher.dispatch(call)
            try:
                body = await answer.read()
            finally:
                await answer.aclose()
        except (UpstreamError, ClientError, Overloaded):
            return None
        return body if isinstance(answers.from_json(call.endpoint, body), Finished) else None

    def _count(self, model: str, result: str) -> None:
        if model:
            self._metrics.mirrored.labels(model, result).inc()
        else:
            self._metrics.small_answers.labels(result).inc()


def asked_again(call: Call, model: str) -> Call:
    """`call` once more, whole and without haste, of `model` if one is named; a request of this POP's own."""
    body = {name: value for name, value in call.body.items() if name not in {"stream", "stream_options"}}
    body["model"] = model or call.model
    return msgspec.structs.replace(
        call,
        model=body["model"],
        body=body,
        raw=encode(body),
        stream=False,
        include_usage=False,
        wishes=msgspec.structs.replace(call.wishes, service=ServiceClass.BATCH, deadline=None, arrived=None),
        purpose=Purpose.MIRROR if model else Purpose.SAMPLE,
        account=None,
        upstream="",
    )
