"""Reads what a request needs of an upstream, with what earlier answers taught of how long prompts and answers are."""

import asyncio
from collections.abc import Hashable, Mapping
from hashlib import blake2b
from typing import Any, Final, Protocol

from edgecache import config
from edgecache.clock import Clock
from edgecache.embed.base import Vector
from edgecache.router import deadline, prompt, routes
from edgecache.router.complexity import Complexity
from edgecache.router.demand import Demand
from edgecache.router.lengths import Lengths, Ratios
from edgecache.router.prompt import Prompt
from edgecache.types import Call, Endpoint

NOWHERE: Final = frozenset({"(nowhere)"})
"""A residency that no upstream has: what the tenant's allows and what the request wishes have nothing in common."""

COUNTED: Final = 4096
"""Bytes of the longest prompt whose tokens are counted: 1.5 ms, in which nothing else goes on here."""

_SESSIONS = ("x-session-id", "x-correlation-id", "x-session-affinity", "x-multi-turn-session-id")


class Vocabulary(Protocol):
    """Counts tokens as a model does: `embed.vocabulary`."""

    def count(self, text: str) -> int:
        """Tokens in `text`, without special ones. May be called by several threads at a time."""
        ...


class Reader:
    """Makes a Demand of a Call, and learns from what was counted once it is answered."""

    def __init__(
        self,
        settings: config.Router,
        *,
        clock: Clock,
        complexity: Complexity | None = None,
        vocabularies: Mapping[str, Vocabulary] | None = None,
    ) -> None:
        """`complexity` None = no route sends easy questions to a small model; `vocabularies` by the model's name."""
        self._clock = clock
        self._lengths = Lengths()
        self._ratios = Ratios()
        self.replace(settings, complexity=complexity, vocabularies=vocabularies)

    def replace(
        self,
        settings: config.Router,
        *,
        complexity: Complexity | None = None,
        vocabularies: Mapping[str, Vocabulary] | None = None,
    ) -> None:
        """Go on with other settings; what was learned stays."""
        self._settings = settings
        self._residency = frozenset(settings.residency)
        self._complexity = complexity
        self._vocabularies = dict(vocabularies or {})
        for route in settings.route:
            if route.target and (meant := self._vocabularies.get(route.target[0].model)) is not None:
                self._vocabularies.setdefault(route.model, meant)

    def demand(self, call: Call, vector: Vector | None = None) -> Demand:
        """What `call` needs. `vector` is that of its question, where it was embedded.

        `budget` is left at that of a key without one. About 20 µs for a KB; with a vocabulary 0.4 ms a KB more, up to
        `COUNTED`.
        """
        wishes, terms = call.wishes, call.tenant.terms
        asked = prompt.read(call.endpoint, call.body)
        size, fixed = asked.size, asked.fixed
        prompt_tokens, counted, ratio = self._count(call.model, asked, size, fixed)
        limit = prompt.limit(call.endpoint, call.body)
        service = terms.served_as(wishes.service)
        lora = prompt.lora(call.body)
        route = routes.match(self._settings.route, call.model, call.tenant.id)
        session = _session(call)
        generates = call.endpoint is not Endpoint.EMBEDDINGS
        return Demand(
            model=call.model,
            tenant=call.tenant.id,
            service=service,
            stream=call.stream,
            prompt_tokens=prompt_tokens,
            counted=counted,
            output_tokens=self._expected(call, limit) if generates else 0.0,
            limit=limit,
            size=size,
            fixed=fixed,
            features=asked.features,
            lora=lora,
            gpu=route.gpu if route is not None else "",
            gpu_memory=route.gpu_memory if route is not None else 0,
            residency=_common(terms.residency or self._residency, wishes.residency),
            due=deadline.due(call, self._settings.classes, self._clock.monotonic()),
            hops=wishes.hops,
            prefixes=prompt.prefixes(asked, f"{call.tenant.id}\n{call.model}\n{lora}".encode(), ratio),
            session=session,
            sticky=_sticky(call, session) if route is not None and route.target else b"",
            easy=self._easy(route, asked, vector) if vector is not None else None,
            weight=terms.weight,
            function=call.upstream,
        )

    def learn(self, call: Call, demand: Demand, prompt_tokens: int, completion_tokens: int) -> None:
        """An upstream counted these tokens for `call`, of which `demand` was made."""
        if prompt_tokens > 0 and not prompt.guessed(demand.features):
            self._ratios.learn(call.model, prompt_tokens - demand.fixed, demand.size)
        if completion_tokens > 0:
            self._lengths.learn(_scope(call), completion_tokens / prompt.choices(call.body), demand.limit)

    async def count(self, model: str, text: str) -> int:
        """Tokens in a `text` of `model`: by its vocabulary, a long one on a thread, or by the learned ratio."""
        vocabulary = self._vocabularies.get(model)
        if vocabulary is None:
            return round(len(text.encode("utf-8", "replace")) * self._ratios.ratio(model))
        if len(text) <= COUNTED:
            return vocabulary.count(text)
        return await asyncio.to_thread(vocabulary.count, text)

    def _count(self, model: str, asked: Prompt, size: int, fixed: int) -> tuple[int, bool, float]:
        """Tokens of the prompt, whether they were counted, and how many a byte of text has."""
        if not size:
            return fixed, fixed > 0 and not asked.media, 0.0
        vocabulary = self._vocabularies.get(model)
        if vocabulary is None or asked.media or size > COUNTED:
            ratio = self._ratios.ratio(model)
            return round(fixed + size * ratio), False, ratio
        tokens = vocabulary.count(asked.text())
        return fixed + tokens, True, tokens / size

    def _expected(self, call: Call, limit: int) -> float:
        return self._lengths.expect(_scope(call), limit) * prompt.choices(call.body)

    def _easy(self, route: config.Route | None, asked: Prompt, vector: Vector) -> float | None:
        """The estimate, where a route wants it and it means anything: it has seen single questions in plain text."""
        if self._complexity is None or route is None or route.small is None or asked.turns != 1 or asked.features:
            return None
        return self._complexity.probability(vector)


def _common(allowed: frozenset[str], wished: frozenset[str] | None) -> frozenset[str]:
    """Where a prompt may go if it may go to `allowed` (empty = anywhere) and is wished to go to `wished` only."""
    if wished is None:
        return allowed
    return (allowed & wished if allowed else wished) or NOWHERE


def _scope(call: Call) -> Hashable:
    return call.tenant.id, call.model, call.endpoint, call.stream


def _session(call: Call) -> bytes:
    """A digest of what the client calls its conversation, as trtllm-serve reads it: its body, else its headers."""
    named = call.body.get("conversation_params")
    name: Any = named.get("conversation_id") if isinstance(named, dict) else ""
    if not isinstance(name, str):
        name = ""
    if not name and call.headers:
        name = next((found for header in _SESSIONS if (found := call.headers.get(header))), "")
    if not name:
        return b""
    return blake2b(f"{call.tenant.id}\n{name}".encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _sticky(call: Call, session: bytes) -> bytes:
    """What decides between the targets of a route: the conversation, else the question."""
    return session or blake2b(call.raw, digest_size=16).digest()
