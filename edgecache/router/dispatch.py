"""Sends a miss on its way, with one second try while no response byte has been seen. Choosing is `pool`'s part."""

from collections.abc import Mapping

from edgecache.errors import NoUpstream, UpstreamError, UpstreamUnreachable
from edgecache.router.pool import Pool
from edgecache.types import Call
from edgecache.upstream.answer import UpstreamAnswer


class Dispatcher:
    """Opens upstream answers. A complete answer, whatever its status, is passed on and never retried."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def dispatch(self, call: Call) -> UpstreamAnswer:
        """The answer to `call`, its head received; of the upstream that it names, if that one serves the model.

        Where no connection could be made, or a kept one turned out dead, the request goes once more: to another
        upstream that serves the model, else to the same. Raises `ModelNotFound` or an `UpstreamError`.
        """
        first = await self.pool.pick(call.model, prefer=call.upstream)
        try:
            return await first.open(call)
        except UpstreamUnreachable:
            try:
                second = await self.pool.pick(call.model, exclude=(first.name,))
            except NoUpstream:
                second = first
            return await second.open(call)

    async def forward(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        authorization: str | None = None,
    ) -> UpstreamAnswer:
        """Pass a request for a stored response through.

        Servers keep responses in their own memory, so each upstream is asked until one does not say 404. That answer
        counts only when every upstream gave it: else the error of the one that could not be asked is raised. Also
        raises `NoUpstream` and `UnknownUrl`.
        """
        failure: UpstreamError | None = None
        answer: UpstreamAnswer | None = None
        for client in self.pool.clients:
            if answer is not None:
                await answer.aclose()
            try:
                answer = await client.forward(method, path, headers, body, authorization=authorization)
            except UpstreamError as error:
                answer, failure = None, error
                continue
            if answer.status != 404:
                return answer
        if answer is None or failure is not None:
            if answer is not None:
                await answer.aclose()
            raise failure or NoUpstream("no upstream is configured")
        return answer
