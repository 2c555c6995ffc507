"""The answer that is handed on: one attempt's, safe so far, with its deadline, its end and what follows from both."""

import asyncio
import math
from collections.abc import AsyncGenerator
from typing import NamedTuple

from edgecache.errors import UpstreamDied
from edgecache.router import continuation
from edgecache.router.attempt import Running
from edgecache.router.continuation import Continuation
from edgecache.router.errand import Errand
from edgecache.tasks import Tasks
from edgecache.upstream.answer import Chunk, UpstreamAnswer
from edgecache.upstream.meter import Usage
from edgecache.wire.openai import reports_error


class Handing(NamedTuple):
    """What handing an answer on needs: `left` are the seconds to its deadline, `route` the words of its header."""

    tasks: Tasks
    continuation: Continuation
    left: float
    route: str


class RoutedAnswer:
    """An answer from whichever upstream gave it. Whoever takes one must `aclose()` it, also when the client left.

    Attributes are those of `UpstreamAnswer`; also `model`, which answered, and `small`: it is a small model that stood
    in for the one asked for. `lifetime` is 0 for what must not be kept: answers of a fallback, and, from then on, a
    stream that another upstream continued.
    """

    def __init__(self, errand: Errand, run: Running, answer: UpstreamAnswer, handing: Handing) -> None:
        leg = run.pick.leg
        self.status = answer.status
        self.content_type = answer.content_type
        self.upstream = answer.upstream
        self.headers = dict(answer.headers)
        if handing.route:
            self.headers["x-edgecache-route"] = handing.route
        self.lifetime = answer.lifetime if leg.keep else 0.0
        self.streaming = run.stream is not None
        self.model = leg.model
        self.small = leg.small
        self._errand = errand
        self._run = run
        self._tasks = handing.tasks
        self._continuation = handing.continuation if continuation.allowed(errand.call) else None
        self._written, self._tokens = "", 0
        self._late = False
        self._timer: asyncio.TimerHandle | None = None
        if run.over:
            errand.close()
        elif handing.left < math.inf:
            self._timer = asyncio.get_running_loop().call_later(handing.left, self._expire)

    @property
    def usage(self) -> Usage:
        """What the answer took so far, in tokens; of one that was continued, all of its parts."""
        said = self._run.usage
        return said._replace(completion=said.completion + self._tokens) if self._tokens else said

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """The events of a stream, as they arrive. Raises `UpstreamDied` as `UpstreamAnswer.chunks` does."""
        try:
            while True:
                held: Chunk | None = None
                died: UpstreamDied | None = None
                try:
                    async for chunk in _rest(self._run):
                        shown, held = self._split(chunk)
                        if shown.events:
                            yield shown
                except UpstreamDied as error:
                    died = error
                if died is None:
                    self._run.end("ok")
                    return
                run = await self._resumed(died)
                if run is None:
                    if held is not None:
                        yield held
                    raise self._ending(died)
                self._run = run
                self.lifetime = 0.0
                yield continuation.mark(run.name)
        finally:
            await self.aclose()

    async def read(self) -> bytes:
        """The whole body; raises what `chunks` does where it has to be read still."""
        if self._run.body is not None:
            await self.aclose()
            return self._run.body
        return b"".join([chunk.visible async for chunk in self.chunks()])

    async def aclose(self) -> None:
        """Give the answer up: unless it was read to its end, the connection is closed at once."""
        if self._errand.closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        await self._run.aclose()
        self._errand.close()

    def _expire(self) -> None:
        """The deadline: the connection goes, and whoever reads finds out."""
        self._late = True
        if self._run.answer is not None:
            self._tasks.spawn(self._run.answer.aclose(), name="deadline")

    async def _resumed(self, died: UpstreamDied) -> Running | None:
        """Who goes on after the stream has died, if anybody does."""
        run, late = self._run, self._late
        run.died(self._ending(died), deadline=late)
        if self._continuation is None or late or run.answer is None or run.answer.meter.finished:
            return None
        self._written += run.answer.meter.text()
        self._tokens += run.usage.completion
        following = await self._continuation.resume(self._errand, run, self._written, self._tokens)
        if following is not None and self._late:
            await following.aclose()
            return None
        return following

    def _ending(self, died: UpstreamDied) -> UpstreamDied:
        return UpstreamDied(f"{self._run.name} did not end its answer by the deadline") if self._late else died

    def _split(self, chunk: Chunk) -> tuple[Chunk, Chunk | None]:
        """Where the stream may be continued, an error event is kept back: it is no error if somebody goes on."""
        if self._continuation is None or b"error" not in chunk.visible or not reports_error(last := chunk.events[-1]):
            return chunk, None
        return Chunk(chunk.visible.removesuffix(last), chunk.events[:-1]), Chunk(last, [last])


async def _rest(run: Running) -> AsyncGenerator[Chunk, None]:
    """What came before the answer was handed on, as one, then what comes."""
    head, run.head = run.head, []
    if len(head) > 1:
        head = [Chunk(b"".join(each.visible for each in head), [event for each in head for event in each.events])]
    for chunk in head:
        yield chunk
    if run.stream is not None and not run.ended:
        async for chunk in run.stream:
            yield chunk
