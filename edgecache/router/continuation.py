"""Goes on with a stream that died in the midst, at another upstream of the same model, where the tenant allows it."""

from edgecache.errors import EdgeCacheError
from edgecache.router.attempt import Desk, Running
from edgecache.router.errand import Errand
from edgecache.router.picking import Pick, Picker
from edgecache.router.retries import Retries
from edgecache.types import Call
from edgecache.upstream.answer import Chunk
from edgecache.upstream.dialects import continues

_MOST = 3
"""Upstreams that are asked to go on with one answer each time that it breaks off."""
_ABLE = "vllm"
"""The dialect that can go on with most."""


def allowed(call: Call) -> bool:
    """Whether the tenant wants its streams continued, and there are upstreams that could continue this one."""
    return call.stream and call.tenant.terms.continuation and continues(_ABLE, call)


def mark(name: str) -> Chunk:
    """What stands in the stream where upstream `name` goes on: a comment, which clients skip."""
    event = b": edgecache continued on " + name.encode() + b"\n\n"
    return Chunk(event, [event])


class Continuation:
    """Finds who goes on. A further attempt like any other: it needs a place, and the budget of retries."""

    def __init__(self, desk: Desk, picker: Picker, retries: Retries) -> None:
        self._desk = desk
        self._picker = picker
        self._retries = retries
        self._results = desk.metrics.continuations

    async def resume(self, errand: Errand, died: Running, written: str, tokens: int) -> Running | None:
        """The attempt that goes on after `written`, which were so many `tokens`, its first token received; or None."""
        found = await self._found(errand, died, written, tokens) if written else None
        self._results.labels("failed" if found is None else "continued").inc()
        return found

    async def _found(self, errand: Errand, died: Running, written: str, tokens: int) -> Running | None:
        for _ in range(_MOST):
            pick = self._pick(errand, died)
            if pick is None:
                return None
            run = Running(self._desk, errand, pick, written=written, written_tokens=tokens)
            await run.start()
            run.taken()
            if run.failure is None and run.stream is not None:
                return run
            errand.failed(run.name, pick.leg.model)
        return None

    def _pick(self, errand: Errand, died: Running) -> Pick | None:
        unable = [
            client.name for client in self._desk.pool.clients if not continues(client.settings.dialect, errand.call)
        ]
        try:
            pick = self._picker.leg(errand, died.pick.leg, frozenset(unable))
        except EdgeCacheError:
            return None
        if not isinstance(pick, Pick) or not self._retries.take(self._picker.settings.hedging):
            return None  # a place that was taken is given back with the rest, at once
        return pick
