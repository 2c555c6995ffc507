"""The embedded core: a scripted OpenAI-compatible cluster with the wire habits of the server it plays.

Answers are a pure function of the request (`sim.answers`, `sim.words`), their form is the dialect's (`sim.habits`),
their timing and failures come from the settings, which `POST /admin/config` changes while it runs. Parameter names are
those of llm-d-inference-sim. It generates nothing: never mistake it for a model.
"""

import base64
from collections import deque
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import msgspec
import orjson
from aiohttp import web

from edgecache.clock import Clock
from edgecache.config import tree as config
from edgecache.sim import answers, ask, habits, metrics, prefixes, responses, words
from edgecache.sim.ask import Ask, Refused
from edgecache.sim.delivery import Delivery, Pace, as_json, as_stream
from edgecache.sim.seen import Seen, Tally
from edgecache.sim.slots import QueueFull, Slots
from edgecache.types import Endpoint

DIMENSION = 384
"""Numbers in an embedding unless the request says `dimensions`."""

_VERSION = "1.2.0"
_AT_ONCE = {"rate_limit": 429, "server_error": 500, "overloaded": 503, "empty_404": 404}
_RECORDS = 1000
"""Iterations that trtllm-serve's draining list keeps until somebody reads it."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ScriptedCore:
    """The server. `seen` holds what its clients did, `settings` are the ones in force, `url` is where it listens."""

    def __init__(self, settings: config.Core, clock: Clock) -> None:
        self.settings = settings
        self.url = ""
        self.seen = Seen()
        self._clock = clock
        self._random = Random(settings.seed)  # noqa: S311 - repeatable delays and failures, no secrets
        self._slots = Slots(settings.max_num_seqs, settings.max_waiting_queue_length)
        self._pace = Pace(self._random, settings, lambda: self._slots.running)
        self._shelf = responses.Shelf()
        self._prefixes = prefixes.Prefixes()
        self._iterations: deque[dict[str, Any]] = deque(maxlen=_RECORDS)
        self._iteration = 0
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
        """Change settings while running. Raises `msgspec.ValidationError` for unknown names and bad values.

        What is generated at the moment becomes slower or faster at once; failures are for requests to come.
        """
        merged = {**msgspec.to_builtins(self.settings), **changes}
        self.settings = self._pace.settings = msgspec.convert(merged, config.Core)
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
            web.get("/metrics", self._metrics),
            web.get("/prometheus/metrics", self._metrics),
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
        asked = ask.read(endpoint, raw, self.settings, answer=words.name_of(request.headers.get("tracestate")))
        self._count(asked)
        failure = self._failure()
        if failure == "null_body":
            return web.Response(body=b"null", content_type="application/json")
        if failure == "error_event" and not asked.stream:
            failure = "server_error"
        if failure in _AT_ONCE:
            raise self._failed(failure)
        try:
            async with self._slots:
                self._iterated()
                response = await self._generate(request, asked, failure)
        except QueueFull:
            self.seen.refused += 1
            raise self._failed("rate_limit" if self.settings.dialect != "dynamo" else "overloaded") from None
        finally:
            self._iterated()
        self.seen.finished += failure is None
        return response

    def _count(self, asked: Ask) -> None:
        self.seen.streams += asked.stream
        self.seen.salts[asked.salt] += 1
        if asked.priority is not None:
            self.seen.priorities[asked.priority] += 1

    def _iterated(self) -> None:
        """Somebody has come or gone: one more record for trtllm-serve's list."""
        self._iteration += 1
        self._iterations.append(metrics.iteration(self._iteration, self._load(), self.seen))

    def _load(self) -> metrics.Load:
        return metrics.load(self.settings, self._slots.running, self._slots.waiting)

    def _failure(self) -> str | None:
        rate, kinds = self.settings.failure_injection_rate, self.settings.failure_types
        if not rate or not kinds or self._random.random() >= rate:
            return None
        kind = self._random.choice(kinds)
        self.seen.failures[kind] += 1
        return kind

    def _failed(self, kind: str) -> Refused:
        status = _AT_ONCE[kind]
        if kind == "empty_404":
            return Refused(status, "")
        if status == 503 and self.settings.dialect == "dynamo":
            return Refused(529, "Service temporarily overloaded")
        message = {429: "Too many requests", 500: "The engine failed", 503: "The server is overloaded"}[status]
        return Refused(status, message, {429: "rate_limit_exceeded"}.get(status))

    def _error(self, refused: Refused) -> web.Response:
        if not refused.message:
            return web.Response(status=refused.status)
        wait = self.settings.retry_after
        headers = {"Retry-After": str(wait)} if wait and refused.status in {429, 503} else {}
        body = habits.error(self.settings.dialect, refused.status, refused.message, refused.code)
        return web.Response(status=refused.status, body=body, content_type="application/json", headers=headers)

    async def _generate(self, request: web.Request, asked: Ask, failure: str | None) -> web.StreamResponse:
        scope = f"{asked.model}\0{asked.salt}"
        prompt = prefixes.tokens(asked.body)
        cached = self._prefixes.known(scope, prompt)
        tally = Tally(self.seen, asked.model, asked.prompt_tokens, cached)
        how = Delivery(self._pace, self._clock, tally.made, asked.prompt_tokens - cached, failure)
        if asked.endpoint is Endpoint.EMBEDDINGS:
            return await as_json(request, self._embeddings(asked), how)
        if failure is None:
            self._prefixes.note(scope, prompt)
        made = answers.choices(asked, self.settings.dialect, self.settings.seed)
        body, events = self._written(asked, made, cached)
        steps = range(max(1, *(len(choice.tokens) for choice in made)))
        tokens = [sum(len(choice.tokens) > step for choice in made) for step in steps]
        if not asked.stream:
            response = await as_json(request, body, how, tokens)
        else:
            words_at_last = habits.error_events(self.settings.dialect)
            response = await as_stream(request, events, how, tokens, last_words=words_at_last)
        if failure is None:
            self._prefixes.note(scope, [*prompt, *made[0].text.split()])
        return response

    def _written(self, asked: Ask, made: list[words.Generated], cached: int) -> tuple[bytes, list[bytes]]:
        """The answer as a body, or as the events of a stream."""
        self._number += 1
        if asked.endpoint is Endpoint.RESPONSES:
            found = self._respond(asked, made[0], cached)
            return (b"", responses.stream(found, made[0])) if asked.stream else (orjson.dumps(found), [])
        reply = self._reply(asked, made, cached)
        if asked.stream:
            return b"", habits.stream(reply, include_usage=asked.include_usage)
        return habits.whole(reply), []

    def _reply(self, asked: Ask, made: list[words.Generated], cached: int) -> habits.Reply:
        return habits.Reply(
            dialect=self.settings.dialect,
            endpoint=asked.endpoint,
            id=habits.answer_id(self.settings.dialect, asked.endpoint, self._number, self._random.getrandbits(128)),
            created=int(self._clock.now()),
            model=self.settings.models[0] if self.settings.dialect == "trtllm" else asked.model,
            choices=made,
            prompt_tokens=asked.prompt_tokens,
            cached_tokens=cached,
        )

    def _respond(self, asked: Ask, made: words.Generated, cached: int) -> dict[str, Any]:
        previous = asked.body.get("previous_response_id")
        if previous is not None and previous not in self._shelf.stored:
            raise Refused(404, f"Response with id '{previous}' not found", "not_found")
        response = responses.build(
            asked.body,
            number=self._random.getrandbits(96),
            model=asked.model,
            made=made,
            prompt_tokens=asked.prompt_tokens,
            created=int(self._clock.now()),
        )
        response["usage"]["input_tokens_details"]["cached_tokens"] = cached
        self._shelf.keep(response, asked.body)
        return response

    def _embeddings(self, asked: Ask) -> bytes:
        given = asked.body.get("input", "")
        texts = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
        packed = asked.body.get("encoding_format") == "base64"
        data = []
        for index, text in enumerate(texts):
            vector = words.vector(words.plain(text), asked.body.get("dimensions") or DIMENSION)
            shown = base64.b64encode(vector.astype("<f4").tobytes()).decode() if packed else vector.tolist()
            data.append({"object": "embedding", "index": index, "embedding": shown})
        usage = {"prompt_tokens": asked.prompt_tokens, "total_tokens": asked.prompt_tokens}
        return orjson.dumps({"object": "list", "data": data, "model": asked.model, "usage": usage})

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
        names = () if metrics.gone(self.settings) else self.settings.models
        cards = [{"id": model, "object": "model", "created": created, "owned_by": owner} for model in names]
        if cards and self.settings.dialect != "trtllm":  # there, adapters are no models of their own
            cards += [{**cards[0], "id": adapter, "parent": names[0]} for adapter in self.settings.loras]
        return _json({"object": "list", "data": cards})

    async def _metrics(self, request: web.Request) -> web.Response:
        dialect = self.settings.dialect
        if metrics.PATHS.get(dialect) == request.path:
            text = metrics.prometheus(self.settings, self._load(), self.seen)
            return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
        if dialect != "trtllm":
            return web.Response(status=404)
        if self._slots.running or self._slots.waiting:  # an idle server says nothing
            self._iterated()
        records = list(self._iterations)
        self._iterations.clear()
        return _json(records)

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
        return _json(msgspec.to_builtins(self.settings))

    async def _report(self, _request: web.Request) -> web.Response:
        load = {"running": self._slots.running, "waiting": self._slots.waiting}
        return _json({**self.seen.as_json(), **load})


def _json(value: Any) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
