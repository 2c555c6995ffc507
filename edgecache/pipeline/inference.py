"""What functions get from this POP's own answers: `llm` and `cache.lookup`, for the tenant whose request they serve.

A prompt is a chat request like any other: from the cache where that is sound, else from upstream. No function runs on
it. Spin's SDKs send a value for every option, so one that is exactly their default counts as not given: their
temperature alone would keep every prompt out of the cache.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from edgecache.clock import Clock
from edgecache.embed.batcher import Batcher
from edgecache.errors import BadRequest, ClientError, EdgeCacheError, EmbedError, NotCached, TextTooLong
from edgecache.functions.answers import Found, Inference, Options
from edgecache.functions.context import Context
from edgecache.functions.phases import Rules
from edgecache.pipeline.serve import Pipeline
from edgecache.telemetry.trace import Trace
from edgecache.types import Call, Controls, Endpoint, Purpose, Reply
from edgecache.wasm.hostcalls import Code, HostRefused
from edgecache.wire import answers, openai
from edgecache.wire.jsontext import encode

_EMBED_DEADLINE = 30.0
"""Seconds that vectors may take: as `POST /v1/embeddings`; the call's own deadline is usually sooner."""
_SPIN = Options(max_tokens=100, repeat_penalty=1.1, repeat_last_n=64, temperature=0.8, top_k=40, top_p=0.9)
"""What Spin's SDKs send where the developer said nothing."""
_FIELDS = {
    "max_tokens": "max_tokens",
    "repeat_penalty": "repetition_penalty",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
}
"""Options of Spin by their names in a chat request. `repeat_last_n` has none."""


_Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


class _Usage(msgspec.Struct):
    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None


class _Metered(msgspec.Struct):
    usage: _Usage | None = None


class LocalAnswers:
    """The port that functions ask (`functions.answers.Answers`). `attach` comes before the first question."""

    def __init__(self, embedder: Batcher, rules: Rules, *, clock: Clock) -> None:
        self._embedder = embedder
        self._rules = rules
        self._clock = clock
        self._pipeline: Pipeline | None = None

    def attach(self, pipeline: Pipeline) -> None:
        """Ask `pipeline`: it is made later, since functions run in it."""
        self._pipeline = pipeline

    async def infer(self, context: Context, model: str, prompt: str, options: Options) -> Inference:
        """Answer `prompt`. Raises HostRefused."""
        reply = await self._serve(self._call(context, model, prompt, _given(options)))
        text = answers.text(Endpoint.CHAT, reply.body) if reply.status == 200 else None
        if text is None:
            raise HostRefused(Code.UNAVAILABLE, f"no text came from {model}: status {reply.status}")
        usage = _usage(model, reply.body)
        return Inference(text, usage.prompt_tokens or 0, usage.completion_tokens or 0)

    async def embed(self, context: Context, model: str, texts: Sequence[str]) -> tuple[int, list[bytes]]:
        """The tokens of `texts`, and the vector of each. Raises HostRefused."""
        del context  # whose texts they are makes no difference to the local embedder
        name = self._embedder.embedder.name
        if model.lower() not in _names(name):
            raise HostRefused(Code.NOT_FOUND, f"the embedder of this POP is {name}, not {model[:80]}")
        if not texts or not all(texts):
            raise HostRefused(Code.INVALID, "llm.embed takes one text at least, and none that is empty")
        try:
            vectors, tokens = await self._embedder.embed_many(list(texts), deadline=_EMBED_DEADLINE)
        except TextTooLong as error:
            raise HostRefused(Code.INVALID, error.message) from error
        except EmbedError as error:
            raise HostRefused(Code.UNAVAILABLE, error.message) from error
        return tokens, [row.tobytes() for row in vectors.astype("<f4", copy=False)]

    async def lookup(self, context: Context, model: str, question: str) -> Found | None:
        """The stored answer to `question`, if one may be served; never goes upstream. Raises HostRefused."""
        call = self._call(context, model, question, {}, Controls(only_if_cached=True))
        try:
            reply = await self._serve(call)
        except NotCached:
            return None
        if reply.status != 200 or reply.cache.entry_id is None:
            return None
        similarity = reply.cache.similarity  # rounding may carry it beyond 1
        return Found(reply.body, 1.0 if similarity is None else min(1.0, similarity), reply.cache.entry_id)

    def _call(
        self, context: Context, model: str, prompt: str, options: dict[str, Any], controls: Controls | None = None
    ) -> Call:
        raw = encode({"model": model, "messages": [{"role": "user", "content": prompt}], **options})
        rules = self._rules
        try:
            parsed = openai.parse(Endpoint.CHAT, raw, max_depth=rules.max_depth, max_messages=rules.max_messages)
            rules.admit(context.tenant, model)
        except BadRequest as error:
            raise HostRefused(Code.INVALID, error.message) from error
        except ClientError as error:
            raise HostRefused(Code.NOT_FOUND, error.message) from error
        return Call(
            context.request_id,
            context.tenant,
            Endpoint.CHAT,
            model,
            parsed.body,
            raw,
            controls=controls or Controls(),
            inner=True,
            purpose=Purpose.FUNCTION,
        )

    async def _serve(self, call: Call) -> Reply:
        if self._pipeline is None:
            raise HostRefused(Code.UNAVAILABLE, "this POP is still starting")
        try:
            return await self._pipeline.serve(call, Trace(self._clock))
        except NotCached:
            raise
        except ClientError as error:
            raise HostRefused(Code.NOT_FOUND, error.message) from error
        except EdgeCacheError as error:
            raise HostRefused(Code.UNAVAILABLE, error.message) from error


def _usage(model: str, body: bytes) -> _Usage:
    """The tokens of an answer, none where it names none. Raises HostRefused where they are no numbers of tokens."""
    try:
        return msgspec.json.decode(body, type=_Metered).usage or _Usage()
    except msgspec.DecodeError as error:
        raise HostRefused(Code.UNAVAILABLE, f"the answer of {model} cannot be metered: {error}") from error


def _given(options: Options) -> dict[str, Any]:
    """What the developer asked for, as fields of a chat request."""
    given = {
        name: value
        for name, value in msgspec.structs.asdict(options).items()
        if value is not None and value != getattr(_SPIN, name)
    }
    if "repeat_last_n" in given:
        raise HostRefused(Code.INVALID, "repeat_penalty_last_n_token_count cannot be chosen: no upstream takes it")
    return {_FIELDS[name]: value for name, value in given.items()}


def _names(embedder: str) -> set[str]:
    """The names that an embedder goes by, in lower case: Spin's are without whom it is from."""
    name = embedder.lower()
    return {name, "edgecache/" + name, name.rsplit("/", 1)[-1]}
