"""The functions of this POP, as the pipeline meets them: whether any concern a request. Without any that costs nothing.

What they do to it is `visit`'s part.
"""

from collections.abc import Mapping

from edgecache.functions.manifest import Phase
from edgecache.pipeline.visit import NoVisit, Parts, Visit, by_events, chains_of
from edgecache.telemetry.trace import Trace
from edgecache.types import Call

_NONE = NoVisit()


class Hooks:
    """Finds out which functions a request meets. Without `parts` none ever runs."""

    def __init__(self, parts: Parts | None = None) -> None:
        self._parts = parts

    def visit(self, call: Call, trace: Trace) -> NoVisit:
        """The functions of one request; none run on those that a function makes."""
        parts = self._parts
        if parts is None or call.inner or not (chains := chains_of(parts, call)):
            return _NONE
        return Visit(parts, call, chains, trace)

    def quick(self, call: Call, trace: Trace, request_id: str, headers: Mapping[str, str]) -> NoVisit | None:
        """The functions of a request that is hoped to hit without waiting; None where it must take the long way.

        `call` may be an earlier one of the same bytes; `request_id` and `headers` are those of the request at hand.
        """
        parts = self._parts
        if parts is None or not (chains := chains_of(parts, call)):
            return _NONE
        if Phase.REQUEST in chains or Phase.KEY in chains:
            return None
        chain = chains.get(Phase.HIT, ())
        if not chain:
            return _NONE
        if call.stream and by_events(chain):
            return None
        visit = Visit(parts, call, chains, trace)
        visit.client, visit.request_id = headers, request_id
        return visit
