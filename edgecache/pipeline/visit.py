"""One request on its way through functions: what they want of it takes effect here, phase by phase.

What a function is asked and what its answer means is `functions.phases`' part, how it is run `functions.runner`'s. In a
chain each gets what the one before has made. The stored copy of an answer is never changed.
"""

from hashlib import blake2b

import msgspec

from edgecache.cache import key as keys
from edgecache.clock import Clock
from edgecache.errors import Fault, Forbidden, FunctionFault
from edgecache.functions import phases
from edgecache.functions.bindings import Bindings, Bound, Chain, Chains
from edgecache.functions.manifest import Phase
from edgecache.functions.phases import Act, Action, Rules
from edgecache.functions.runner import Job, Runner
from edgecache.functions.versions import Loaded
from edgecache.pipeline.plan import Plan
from edgecache.pipeline.streams import Changed, Events, gather, in_form, in_form_later
from edgecache.telemetry.trace import Trace
from edgecache.types import CacheInfo, CacheStatus, Call, Endpoint, Reply
from edgecache.wasm.base import Headers, Response
from edgecache.wire import openai
from edgecache.wire.jsontext import encode

FUNCTION = "x-edgecache-function"
"""The response header that names the functions that ran."""
_REFUSED = "refused_by_function"
_PATHS = {endpoint: endpoint.path for endpoint in Endpoint}


class Settled(Exception):
    """A function has answered or refused the request: `reply` is what goes to the client."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


class Parts(msgspec.Struct, frozen=True):
    """What functions are found and run with. `whole` is the largest stream, in bytes, gathered to be handed over."""

    bindings: Bindings
    runner: Runner
    rules: Rules
    clock: Clock
    whole: int


class NoVisit:
    """A request on which no function runs."""

    async def request(self, call: Call) -> Call:
        """Phase `request`: the call that goes on. Raises Settled, and FunctionFault where the manifest says `fail`."""
        return call

    async def key(self, call: Call, plan: Plan) -> Plan:  # noqa: ARG002 - Visit's does
        """Phase `key`: the plan that goes on. Raises as `request`."""
        return plan

    async def hit(self, call: Call, reply: Reply, answer: bytes) -> Reply | None:  # noqa: ARG002
        """Phase `hit`: `reply`, made of the stored `answer`, as it goes out; None = go upstream instead.

        Raises as `request`.
        """
        return reply

    def hit_now(self, call: Call, reply: Reply, answer: bytes, digest: bytes) -> Reply | None:  # noqa: ARG002
        """The same without waiting for anything, for the request whose key has `digest`; None = take the long way."""
        return reply

    async def miss(self, call: Call) -> Call:
        """Phase `miss`: the call that goes upstream. Raises as `request`."""
        return call

    def rewrites(self) -> bool:
        """Whether another request than the client's may go upstream."""
        return False

    async def response(self, call: Call, reply: Reply) -> Reply:  # noqa: ARG002
        """Phase `response`: a fresh `reply` as it goes out. Raises as `request`."""
        return reply

    def signed(self, reply: Reply) -> Reply:
        """`reply` with the names and the headers of the functions that ran."""
        return reply


class _Declined(Exception):
    """A function wants a fresh answer in place of the one from the cache."""


class Visit(NoVisit):
    """A request on which functions may run."""

    def __init__(self, parts: Parts, call: Call, chains: Chains, trace: Trace) -> None:
        self.client = call.client
        self.request_id = call.request_id
        self._parts = parts
        self._trace = trace
        self._asked = call
        self._chains = chains
        self._sticky = b""
        self._heading: Headers = ()
        self._bypass = False
        self._words: list[str] = []
        self._ran: dict[str, None] = {}
        self._headers: dict[str, str] = {}

    # ------------------------------------------------------------------------------------------ phases
    async def request(self, call: Call) -> Call:
        """As in NoVisit."""
        if self._chains.get(Phase.REQUEST):  # they run before there is a key
            self._sticky = _digest(call)
        return await self._rewritten(Phase.REQUEST, call)

    async def key(self, call: Call, plan: Plan) -> Plan:
        """As in NoVisit."""
        # One side of a canary for all phases of a request, and for all requests with its key.
        self._sticky = self._sticky or (plan.key.digest if plan.key is not None else _digest(call))
        if plan.key is None:
            return plan
        for bound in self._chains.get(Phase.KEY, ()):
            await self._settle(call, await self._run(self._job(bound, Phase.KEY, call, call.raw)))
        if self._bypass:
            return Plan(msgspec.structs.replace(plan.decision, bypass="function"), None)
        return Plan(plan.decision, keys.divided(plan.key, self._words)) if self._words else plan

    async def hit(self, call: Call, reply: Reply, answer: bytes) -> Reply | None:
        """As in NoVisit."""
        chain, info = self._chains.get(Phase.HIT, ()), reply.cache
        try:
            if call.stream and by_events(chain):
                events = Events(lambda data, number: self._event(chain, Phase.HIT, call, data, number, info))
                reply.body = await events.feed(reply.body)
                return reply
            return await _with(call, reply, answer, await self._through(chain, Phase.HIT, call, answer, info))
        except _Declined:
            return None

    def hit_now(self, call: Call, reply: Reply, answer: bytes, digest: bytes) -> Reply | None:
        """As in NoVisit."""
        self._sticky, body, chain = digest, answer, self._chains.get(Phase.HIT, ())
        runner = self._parts.runner
        if len(chain) > 1 and not all(runner.place(self._pick(bound).version).inline for bound in chain):
            return None  # before any of them has run
        for bound in chain:
            job = self._job(bound, Phase.HIT, call, body, reply.cache)
            action = self._run_now(job)
            if action is None or action.act is not Act.GO_ON:
                return None
            self._note(action)
            body = body if action.body is None else action.body
        if body is not answer:
            reply.content_type, reply.body = in_form(call, body)
        return self.signed(reply)

    async def miss(self, call: Call) -> Call:
        """As in NoVisit."""
        return call if call.controls.only_if_cached else await self._rewritten(Phase.MISS, call)

    def rewrites(self) -> bool:
        """As in NoVisit."""
        return bool(self._chains.get(Phase.MISS, ()))

    async def response(self, call: Call, reply: Reply) -> Reply:
        """As in NoVisit."""
        chain = self._chains.get(Phase.RESPONSE, ())
        if not chain or reply.status != 200:
            return reply
        if reply.chunks is not None and by_events(chain):
            reply.chunks = Changed(
                reply.chunks, lambda data, number: self._event(chain, Phase.RESPONSE, call, data, number)
            )
            for bound in chain:
                self._pick(bound)
            return reply
        with self._trace.stage("upstream"):
            answer = await gather(call, reply, self._parts.whole)
        if answer is None:
            return self._not_whole(chain, reply)
        return await _with(call, reply, answer, await self._through(chain, Phase.RESPONSE, call, answer))

    def signed(self, reply: Reply) -> Reply:
        """As in NoVisit."""
        if self._ran:
            reply.headers = {**reply.headers, **self._headers, FUNCTION: ", ".join(self._ran)}
        return reply

    # ------------------------------------------------------------------------------------------ chains
    async def _rewritten(self, phase: Phase, call: Call) -> Call:
        """The request that the functions of `phase` make of `call`."""
        for bound in self._chains.get(phase, ()):
            action = await self._run(self._job(bound, phase, call, call.raw))
            await self._settle(call, action)
            call = action.call or call
            if action.route:
                call = msgspec.structs.replace(call, upstream=action.route)
        return call

    async def _through(
        self, chain: Chain, phase: Phase, call: Call, answer: bytes, info: CacheInfo | None = None
    ) -> bytes:
        """The answer that a chain makes of `answer`."""
        for bound in chain:
            action = await self._run(self._job(bound, phase, call, answer, info))
            await self._settle(call, action)
            answer = answer if action.body is None else action.body
        return answer

    async def _event(
        self, chain: Chain, phase: Phase, call: Call, data: bytes, number: int, info: CacheInfo | None = None
    ) -> bytes:
        """The data that a chain makes of that of one event of a stream."""
        for bound in chain:
            action = await self._run(self._job(bound, phase, call, data, info, chunk=number))
            if action.act is Act.REFUSE and phase is Phase.RESPONSE:  # part of the stream may be out
                raise Forbidden(action.message or "A function refused the rest of the answer.", code=_REFUSED)
            await self._settle(call, action)
            data = data if action.body is None else action.body
        return data

    def _not_whole(self, chain: Chain, reply: Reply) -> Reply:
        """A stream that is too long, or cannot be read, for functions that take the whole of it."""
        fault = FunctionFault(Fault.SIZE, f"The answer is no stream of at most {self._parts.whole} bytes.")
        for bound in chain:  # one that must not be passed by is enough
            phases.failed(Phase.RESPONSE, self._pick(bound).version.manifest.on_error, fault)
        return reply

    # ------------------------------------------------------------------------------------------ one function
    def _job(
        self,
        bound: Bound,
        phase: Phase,
        call: Call,
        body: bytes,
        info: CacheInfo | None = None,
        chunk: int | None = None,
    ) -> Job[Action]:
        if not self._heading:
            self._heading = phases.heading(
                self.client, tenant=call.tenant.id, model=self._asked.model, request_id=self.request_id
            )
        rules = self._parts.rules
        request = phases.request(
            phase,
            _PATHS[call.endpoint],
            self._heading,
            body,
            now=int(self._parts.clock.now() * 1e9),
            seed=self._parts.runner.seed(),
            info=info,
            chunk=chunk,
        )

        def read(response: Response) -> Action:
            return phases.read(phase, response, call, rules, chunk=chunk is not None)

        return Job(self._pick(bound), phase, request, read, call.tenant, self.request_id, call.model)

    def _pick(self, bound: Bound) -> Loaded:
        loaded = bound.active.pick(self._sticky)
        self._ran[loaded.version.label] = None
        return loaded

    async def _run(self, job: Job[Action]) -> Action:
        """What the function wants, or its `on_error` if it fails."""
        with self._trace.stage("wasm"):
            try:
                return await self._parts.runner.run(job)
            except FunctionFault as fault:
                return phases.failed(job.phase, job.loaded.version.manifest.on_error, fault)

    def _run_now(self, job: Job[Action]) -> Action | None:
        with self._trace.stage("wasm"):
            try:
                return self._parts.runner.now(job)
            except FunctionFault as fault:
                manifest = job.loaded.version.manifest
                return None if manifest.on_error == "fail" else phases.failed(job.phase, manifest.on_error, fault)

    # ------------------------------------------------------------------------------------------ effects
    def _note(self, action: Action) -> None:
        self._headers.update(action.headers)
        if action.key:
            self._words.append(action.key)
        self._bypass = self._bypass or action.act is Act.BYPASS

    async def _settle(self, call: Call, action: Action) -> None:
        """Take note of `action`; raises Settled where it ends the request, _Declined where it wants a fresh answer."""
        self._note(action)
        if action.act is Act.MISS:
            raise _Declined
        info = CacheInfo(CacheStatus.BYPASS, fwd="bypass", detail="function")
        if action.act is Act.REFUSE:
            message = action.message or "A function refused the request."
            body = openai.normalise_error(action.status, encode({"message": message, "code": _REFUSED}))
            raise Settled(Reply(action.status, info, body=body))
        if action.act is Act.ANSWER and action.body is not None:
            content_type, body = await in_form_later(call, action.body)
            raise Settled(Reply(200, info, content_type=content_type, body=body))


def chains_of(parts: Parts, call: Call) -> Chains:
    """The functions of `call` by phase."""
    return parts.bindings.chains(call.tenant.id, call.model, _PATHS[call.endpoint], call.controls.tags)


def by_events(chain: Chain) -> bool:
    """Whether a streamed answer goes through `chain` event by event: only if all of its functions ask for that."""
    return bool(chain) and all(bound.bind.stream == "chunk" for bound in chain)


async def _with(call: Call, reply: Reply, was: bytes, answer: bytes) -> Reply:
    """`reply` with `answer` in place of the one that it was made of."""
    if answer is not was:
        reply.content_type, reply.body = await in_form_later(call, answer)
    return reply


def _digest(call: Call) -> bytes:
    return blake2b(call.raw, digest_size=16).digest()
