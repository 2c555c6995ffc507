"""The embedded core: a scripted OpenAI-compatible cluster with the wire habits of the server it plays.

Answers are a pure function of the request (`sim.words`), their form is the dialect's (`sim.habits`), their timing and
failures come from the settings, which `POST /admin/config` changes while it runs. Parameter names are those of
llm-d-inference-sim. It generates nothing: never mistake it for a model.
"""

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec
import orjson
from aiohttp import web

from edgecache.clock import Clock
from edgecache.config import tree as config
from edgecache.sim import habits, responses, words
from edgecache.sim.delivery import Pace, as_json, as_stream
from edgecache.sim.seen import Seen
from edgecache.sim.slots import QueueFull, Slots
from edgecache.types import Endpoint

DIMENSION = 384
"""Numbers in an embedding unless the request says `dimensions`."""

_VERSION = "1.2.0"
_AT_ONCE = {"rate_limit": 429, "server_error": 500, "overloaded": 503}


class Refused(Exception):
    """The request gets an error answer."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that passed the server's checks."""

    endpoint: Endpoint
    body: dict[str, Any]
    model: str
    stream: bool
    include_usage: bool
    answer: str = ""
    """The name of its answer, if it has one (`words.name_of`)."""


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ScriptedCore:
    """The server. `seen` holds what its clients did, `settings` are the ones in force, `url` is where it listens."""

    def __init__(self, settings: config.Core, clock: Clock) -> None:
        self.settings = settings
        self.url = ""
        self.seen = Seen()
        self._clock = clock
        self._random = Random(settings.seed)  # noqa: S311 - repeatable delays and failures, no secrets
        self._pace = Pace(self._random)
        self._slots = Slots(settings.max_num_seqs, settings.max_waiting_queue_length)
        self._shelf = responses.Shelf()
        self._number = 0
        self._stopping = False
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen and return the base URL; port 0 takes a free one."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.add_routes(self._routes())
        self._stopping = False
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=5.0 if self.settings.dialect in {"trtllm", "vllm"} else 75.0,  # uvicorn's habit
            shutdown_timeout=1.0,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound = self._runner.addresses[0]
        self.url = f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"
        return self.url

    async def stop(self) -> None:
        """Close the listener and end what still runs."""
        self._stopping = True
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def configure(self, **changes: Any) -> None:
        """Change settings while running. Raises `msgspec.ValidationError` for unknown names and bad values."""
        merged = {**msgspec.structs.asdict(self.settings), **changes}
        self.settings = msgspec.convert(merged, config.Core)
        self._slots.resize(self.settings.max_num_seqs, self.settings.max_waiting_queue_length)

    def _routes(self) -> list[web.RouteDef]:
        stored = "/v1/responses/{id}"
        return [
            *(web.post(endpoint.path, self._api(endpoint)) for endpoint in Endpoint),
            web.get(stored, self._stored),
            web.delete(stored, self._stored),
            web.post(stored + "/cancel", self._stored),
            web.get(stored + "/input_items", self._stored),
            web.get("/v1/models", self._models),
            web.get("/health", self._health),
            web.get("/version", self._version),
            web.get("/admin/config", self._config),
            web.post("/admin/config", self._config),
            web.get("/admin/seen", self._report),
        ]

    def _api(self, endpoint: Endpoint) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            raw = await request.read()
            self.seen.note(request.method, request.path, request.headers, raw)
            left = True
            try:
                response = await self._answer(request, endpoint, raw)
                left = False
            except Refused as refused:
                left = False
                return self._error(refused)
            except ConnectionError:  # the client left between two writes
                return web.Response(status=499)
            finally:
                self.seen.disconnected += left and not self._stopping
            return response

        return handle

    async def _answer(self, request: web.Request, endpoint: Endpoint, raw: bytes) -> web.StreamResponse:
        ask = self._check(endpoint, raw, words.name_of(request.headers.get("tracestate")))
        self.seen.streams += ask.stream
        failure = self._failure()
        if failure == "null_body":
            return web.Response(body=b"null", content_type="application/json")
        if failure == "error_event" and not ask.stream:
            failure = "server_error"
        if failure in _AT_ONCE:
            raise self._failed(failure)
        try:
            async with self._slots:
                return await self._generate(request, ask, failure)
        except QueueFull:
            self.seen.refused += 1
            raise self._failed("rate_limit" if self.settings.dialect != "dynamo" else "overloaded") from None

    def _failure(self) -> str | None:
        rate, kinds = self.settings.failure_injection_rate, self.settings.failure_types
        if not rate or not kinds or self._random.random() >= rate:
            return None
        kind = self._random.choice(kinds)
        self.seen.failures[kind] += 1
        return kind

    def _failed(self, kind: str) -> Refused:
        status = _AT_ONCE[kind]
        if status == 503 and self.settings.dialect == "dynamo":
            return Refused(529, "Service temporarily overloaded")
        message = {429: "Too many requests", 500: "The engine failed", 503: "The server is overloaded"}[status]
        return Refused(status, message, {429: "rate_limit_exceeded"}.get(status))

    def _error(self, refused: Refused) -> web.Response:
        headers = {"Retry-After": "1"} if refused.status in {429, 503} else {}
        body = habits.error(self.settings.dialect, refused.status, refused.message, refused.code)
        return web.Response(status=refused.status, body=body, content_type="application/json", headers=headers)

    def _check(self, endpoint: Endpoint, raw: bytes, answer: str) -> Ask:
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise Refused(400, f"the body is not JSON: {error}", "bad_body") from error
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            raise Refused(400, "the body needs a model", "bad_body")
        dialect, model = self.settings.dialect, body["model"]
        known = habits.KNOWN.get((dialect, endpoint))
        if known is not None and (unknown := sorted(body.keys() - known)):
            raise Refused(400, f"Unsupported parameter(s): {', '.join(unknown)}", "bad_body")
        streaming = body.get("stream") is True
        options = body.get("stream_options")
        if options is not None and not streaming:
            raise Refused(400, "stream_options can only be set if stream is true", "bad_body")
        if model not in self.settings.models and dialect != "trtllm":  # trtllm-serve serves its one model to any name
            raise Refused(404, f"The model `{model}` does not exist", "model_not_found")
        if words.count(body) > self.settings.max_model_len:
            raise Refused(400, f"the prompt is longer than {self.settings.max_model_len} tokens", "context_length")
        default = dialect == "trtllm" and options is not None  # `stream_options: {}` means usage there
        usage = options.get("include_usage", default) if isinstance(options, dict) else False
        return Ask(endpoint, body, model, streaming, bool(usage), answer)

    async def _generate(self, request: web.Request, ask: Ask, failure: str | None) -> web.StreamResponse:
        if ask.endpoint is Endpoint.EMBEDDINGS:
            seconds = self._pace.first(self.settings)
            return await as_json(request, self._embeddings(ask), seconds=seconds, failure=failure)
        self._number += 1
        made = self._made(ask)
        if ask.endpoint is Endpoint.RESPONSES:
            found = self._respond(ask, made[0])
            events = responses.stream(found, made[0]) if ask.stream else []
            body = b"" if ask.stream else orjson.dumps(found)
        else:
            reply = self._reply(ask, made)
            events = habits.stream(reply, include_usage=ask.include_usage) if ask.stream else []
            body = b"" if ask.stream else habits.whole(reply)
        if not ask.stream:
            seconds = self._pace.whole(self.settings, max(len(choice.tokens) for choice in made))
            return await as_json(request, body, seconds=seconds, failure=failure)
        return await as_stream(
            request,
            events,
            pace=self._pace,
            settings=self.settings,
            clock=self._clock,
            failure=failure,
            last_words=habits.error_events(self.settings.dialect),
        )

    def _made(self, ask: Ask) -> list[words.Generated]:
        body = ask.body
        limits = (body.get(name) for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"))
        limit = next((value for value in limits if value is not None), None)
        stop = body.get("stop") or ()
        seed = self.settings.seed if body.get("seed") is None else body["seed"]
        return [
            words.answer(
                ask.model,
                words.question(body),
                seed + index,
                limit,
                (stop,) if isinstance(stop, str) else tuple(stop),
                fill=body.get("ignore_eos") is True,
                name=ask.answer,
            )
            for index in range(habits.choices(self.settings.dialect, body.get("n") or 1))
        ]

    def _reply(self, ask: Ask, made: list[words.Generated]) -> habits.Reply:
        return habits.Reply(
            dialect=self.settings.dialect,
            endpoint=ask.endpoint,
            id=habits.answer_id(self.settings.dialect, ask.endpoint, self._number, self._random.getrandbits(128)),
            created=int(self._clock.now()),
            model=self.settings.models[0] if self.settings.dialect == "trtllm" else ask.model,
            choices=made,
            prompt_tokens=words.count(ask.body),
        )

    def _respond(self, ask: Ask, made: words.Generated) -> dict[str, Any]:
        previous = ask.body.get("previous_response_id")
        if previous is not None and previous not in self._shelf.stored:
            raise Refused(404, f"Response with id '{previous}' not found", "not_found")
        response = responses.build(
            ask.body,
            number=self._random.getrandbits(96),
            model=ask.model,
            made=made,
            prompt_tokens=words.count(ask.body),
            created=int(self._clock.now()),
        )
        self._shelf.keep(response, ask.body)
        return response

    def _embeddings(self, ask: Ask) -> bytes:
        asked = ask.body.get("input", "")
        texts = asked if isinstance(asked, list) and asked and not isinstance(asked[0], int) else [asked]
        packed = ask.body.get("encoding_format") == "base64"
        data = []
        for index, text in enumerate(texts):
            vector = words.vector(words.plain(text), ask.body.get("dimensions") or DIMENSION)
            shown = base64.b64encode(vector.astype("<f4").tobytes()).decode() if packed else vector.tolist()
            data.append({"object": "embedding", "index": index, "embedding": shown})
        tokens = words.count(ask.body)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return orjson.dumps({"object": "list", "data": data, "model": ask.model, "usage": usage})

    async def _stored(self, request: web.Request) -> web.StreamResponse:
        self.seen.note(request.method, request.path, request.headers, await request.read())
        name = request.match_info["id"]
        stored = self._shelf.stored.get(name)
        if stored is None:
            return self._error(Refused(404, f"Response with id '{name}' not found", "not_found"))
        if request.path.endswith("/input_items"):
            return _json(responses.input_items(stored))
        if request.method == "POST":
            if stored.response["background"] is not True:
                return self._error(Refused(400, "Cannot cancel a synchronous response."))
            stored.response["status"] = "cancelled"
        if request.method == "DELETE":
            del self._shelf.stored[name]
            return _json({"id": name, "object": "response", "deleted": True})
        return _json(stored.response)

    async def _models(self, _request: web.Request) -> web.Response:
        owner = {"trtllm": "tensorrt_llm", "dynamo": "nvidia"}.get(self.settings.dialect, self.settings.dialect)
        created = int(self._clock.now())
        cards = [
            {"id": model, "object": "model", "created": created, "owned_by": owner} for model in self.settings.models
        ]
        return _json({"object": "list", "data": cards})

    async def _health(self, _request: web.Request) -> web.Response:
        return _json({"status": "healthy"}) if self.settings.dialect == "dynamo" else web.Response()

    async def _version(self, _request: web.Request) -> web.Response:
        return _json({"version": _VERSION})

    async def _config(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            try:
                changes = orjson.loads(await request.read())
                self.configure(**{name.replace("-", "_"): value for name, value in changes.items()})
            except (ValueError, AttributeError, TypeError) as error:
                return self._error(Refused(400, f"not a usable configuration: {error}"))
        return _json(msgspec.structs.asdict(self.settings))

    async def _report(self, _request: web.Request) -> web.Response:
        load = {"running": self._slots.running, "waiting": self._slots.waiting}
        return _json({**self.seen.as_json(), **load})


def _json(value: Any) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
