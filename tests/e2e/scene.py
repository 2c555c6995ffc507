"""A POP before scripted clusters, some of them broken, its clients, and what must hold whatever breaks."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest

from edgecache.clock import Clock, SystemClock
from edgecache.config import Core, Price, Router, ServiceLevel, ServiceLevels, Upstream
from edgecache.sim import words
from edgecache.sim.upstream import ScriptedCore
from edgecache.types import ServiceClass
from tests.conftest import MODEL, Pop

CHAT = "/v1/chat/completions"
HOME, ABROAD = "EU", "US"
PATIENCE = 8.0
"""s in which everything must have happened that can happen."""
IN_PROGRESS = {"flight", "attempt", "hedge", "deadline", "mirror", "renew"}
"""Names of tasks that end with the requests which they are for."""


class Got(NamedTuple):
    """What a client has of an answer to `question`, of at most `limit` tokens.

    `whole` is False where the connection broke before the body's end.
    """

    question: str
    limit: int | None
    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool
    seconds: float

    @property
    def by(self) -> str:
        """The upstream that it comes from."""
        return self.headers.get("x-edgecache-upstream", "")

    @property
    def cache(self) -> str:
        """What the cache had to do with it."""
        return self.headers.get("x-edgecache-status", "NONE")

    @property
    def events(self) -> list[str]:
        """The data of a stream's events."""
        lines = [line for line in self.body.decode().split("\n\n") if line.startswith("data: ")]
        return [line.removeprefix("data: ") for line in lines]

    @property
    def text(self) -> str:
        """What it says, or as much of it as came."""
        if not self.headers["content-type"].startswith("text/event-stream"):
            return str(json.loads(self.body)["choices"][0]["message"]["content"])
        return "".join(pieces(self.events))

    @property
    def error(self) -> str:
        """The code of its error, else its type."""
        found = json.loads(self.events[-1] if self.status == 200 else self.body)["error"]
        return str(found["code"] or found["type"])


def pieces(events: list[str]) -> list[str]:
    """What each event of a stream adds to the text."""
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    said = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ())]
    return [each for each in said if each]


def check_complete(got: Got) -> None:
    """It is a cluster's answer to the question, and all of it."""
    assert (got.status, got.whole) == (200, True), got
    if got.headers["content-type"].startswith("text/event-stream"):
        assert got.events[-1] == "[DONE]"
        assert not any("error" in json.loads(event) for event in got.events[:-1])
    assert got.text == words.answer(MODEL, got.question, 0, got.limit).text


def check_broken(got: Got) -> None:
    """It began, and nobody can take it for complete: an error event at last, and a connection that was cut."""
    assert got.status == 200
    assert not got.whole
    assert "[DONE]" not in got.events
    assert "error" in json.loads(got.events[-1])


async def until(true: Callable[[], bool]) -> None:
    """Wait until `true` says so."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.002)


class Scene:
    """Clusters by name, all at home but `abroad`, which is free of charge, healthy, and out of bounds."""

    def __init__(self, start: Callable[..., Awaitable[Pop]], session: aiohttp.ClientSession) -> None:
        self.cores: dict[str, ScriptedCore] = {}
        self.upstreams: dict[str, Upstream] = {}
        self.asked = 0
        self.pop: Pop
        self._start = start
        self._session = session

    # ------------------------------------------------------------------------------------------ building
    async def core(
        self, name: str, *, price: float | Price = 1.0, upstream: Mapping[str, Any] | None = None, **script: Any
    ) -> ScriptedCore:
        """A scripted cluster that answers at once, unless `script` says otherwise."""
        quick = {"time_to_first_token": 0.0, "inter_token_latency": 0.0, "dialect": "vllm"}
        made = ScriptedCore(Core(**{**quick, **script}), SystemClock())
        self.cores[name] = made
        own = {"dialect": made.settings.dialect, "models": made.settings.models, **(upstream or {})}
        self.add(name, await made.start(), price=price, **own)
        return made

    def add(self, name: str, url: str, *, price: float | Price = 1.0, **fields: Any) -> None:
        """An upstream that somebody else has started. A number is the price of a million prompt tokens in USD."""
        if not isinstance(price, Price):
            price = Price(input=price, output=2 * price, version="test")
        known: dict[str, Any] = {
            "dialect": "vllm",
            "models": (MODEL,),
            "jurisdiction": HOME,
            "connect_timeout": 1.0,
            "price": price,
        }
        self.upstreams[name] = Upstream(name=name, url=url, **{**known, **fields})

    async def open(
        self,
        *,
        level: Mapping[str, Any] | None = None,
        classes: Mapping[str, Mapping[str, Any]] | None = None,
        clock: Clock | None = None,
        sections: Mapping[str, Any] | None = None,
        **router: Any,
    ) -> Pop:
        """Start the POP. `level` changes all classes of service, `classes` some; keys may have the best."""
        await self.core("abroad", price=0.0, upstream={"jurisdiction": ABROAD})
        known = ServiceLevels()
        changed: dict[str, ServiceLevel] = {}
        for service in ServiceClass:
            changes = {"hedge": False, **(level or {}), **(classes or {}).get(service.value, {})}
            changed[service.value] = msgspec.structs.replace(getattr(known, service.value), **changes)
        settings = {"service_class": ServiceClass.REALTIME, "residency": (HOME,), **router}
        rules = Router(classes=ServiceLevels(**changed), **settings)
        upstreams = tuple(self.upstreams.values())
        self.pop = await self._start("", clock=clock, upstream=upstreams, router=rules, **(sections or {}))
        return self.pop

    # ------------------------------------------------------------------------------------------ clients
    def request(
        self,
        question: str = "",
        *,
        service: str = "standard",
        mode: str = "exact",
        deadline: float | None = None,
        **fields: Any,
    ) -> tuple[str, dict[str, Any], dict[str, str]]:
        """Question (a new one unless it is given), body and headers of a request that is about to be made."""
        self.asked += 1
        question = question or f"Question number {self.asked}: what do the lantern and the harbour have in common?"
        headers = {"EdgeCache-Mode": mode, "EdgeCache-Class": service}
        if deadline is not None:
            headers["EdgeCache-Deadline"] = str(deadline)
        body = {"model": MODEL, "messages": [{"role": "user", "content": question}], **fields}
        return question, body, headers

    async def ask(self, question: str = "", *, within: float = PATIENCE, key: str = "", **more: Any) -> Got:
        """One request and all that comes back, which must be `within` so many seconds."""
        question, body, headers = self.request(question, **more)
        if key:
            headers["Authorization"] = f"Bearer {key}"
        clock = SystemClock()
        begun = clock.monotonic()
        read, whole = b"", True
        async with (
            asyncio.timeout(within),
            self._session.post(self.pop.url + CHAT, json=body, headers=headers) as response,
        ):
            try:
                async for part in response.content.iter_any():
                    read += part
            except aiohttp.ClientPayloadError:
                whole = False
        seconds = clock.monotonic() - begun
        return Got(question, body.get("max_tokens"), response.status, response.headers, read, whole, seconds)

    async def again(self, got: Got, **more: Any) -> Got:
        """The same question once more, when all that followed from the first time has happened."""
        await self.idle()
        limit = {} if got.limit is None else {"max_tokens": got.limit}
        return await self.ask(got.question, **limit, **more)

    async def come(self, **more: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client that has sent its request, and may leave by `writer.transport.abort()`."""
        _, body, headers = self.request(**more)
        host, _, port = self.pop.url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        raw = json.dumps(body).encode()
        lines = [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([f"POST {CHAT} HTTP/1.1", "Host: pop", f"Content-Length: {len(raw)}", *lines])
        writer.write(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + raw)
        return reader, writer

    # ------------------------------------------------------------------------------------------ looking
    def count(self, name: str, **labels: str) -> float:
        """A metric of the POP, 0 where it has never been touched."""
        return self.pop.daemon.metrics.registry.get_sample_value(f"edgecache_{name}", labels) or 0.0

    def inflight(self, name: str) -> int:
        """Requests of this POP in progress at an upstream."""
        board = self.pop.daemon.pool.board
        return int(board.inflight[board.row[name]])

    def is_idle(self) -> bool:
        """Whether nothing is in progress or held anywhere in the POP."""
        daemon = self.pop.daemon
        board = daemon.pool.board
        return not (
            board.inflight.any()
            or board.unanswered.any()
            or (board.oldest < float("inf")).any()
            or daemon.broker.admission.waiting
            or daemon.services.inflight.count
            or len(daemon.flights)
            or any(self.count("upstream_inflight", cluster=name) for name in self.upstreams)
            or any(task.get_name() in IN_PROGRESS for task in daemon.tasks)
        )

    async def idle(self) -> None:
        """Until nothing is in progress."""
        await until(self.is_idle)

    async def records(self) -> list[dict[str, Any]]:
        """What the ledger has, once it has a record of each request; see `edgecache.store.records.Record`."""
        async with asyncio.timeout(PATIENCE):
            while True:
                async with self._session.get(self.pop.admin_url + "/admin/v1/usage/records") as response:
                    found = [json.loads(line) for line in (await response.read()).splitlines()]
                if len([each for each in found if of_client(each)]) >= self.asked:
                    return found
                await asyncio.sleep(0.02)

    async def outcomes(self, number: int = -1) -> tuple[str, list[tuple[str, str]]]:
        """What became of one request (the last): its outcome, and upstream and outcome of each of its attempts."""
        await self.idle()
        record = [each for each in await self.records() if of_client(each)][number]
        return record["outcome"], [(each["upstream"], each["outcome"]) for each in record["attempts"]]

    async def report(self) -> dict[str, dict[str, Any]]:
        """The usage report by upstream; what came from none is under an empty name."""
        async with self._session.get(self.pop.admin_url + "/admin/v1/usage", params={"by": "upstream"}) as response:
            return {row["upstream"]: row for row in (await response.json())["rows"]}

    # ------------------------------------------------------------------------------------------ what must hold
    async def check(self) -> None:
        """Nothing is left over, every request is booked once, every attempt with its end, tokens and price."""
        await self.idle()
        records = await self.records()
        assert len([each for each in records if of_client(each)]) == self.asked
        assert all(record["outcome"] for record in records)
        attempts = [attempt for record in records for attempt in record["attempts"]]
        for attempt in attempts:
            price = self.upstreams[attempt["upstream"]].price
            assert attempt["outcome"], attempt
            assert attempt["seconds"] < PATIENCE
            assert attempt["cost"] == pytest.approx(cost(attempt, price)), attempt
        assert sum(each["cost"] for each in records) == pytest.approx(sum(each["cost"] for each in attempts))
        report = await self.report()
        for name in self.upstreams:
            made = [each for each in attempts if each["upstream"] == name]
            row = report.get(name, {})
            for field in ("prompt_tokens", "completion_tokens", "cached_tokens"):
                assert row.get(field, 0) == sum(each[field] for each in made)
            if name in self.cores:
                check_books(name, made, self.cores[name])
        assert self.cores["abroad"].seen.requests == 0
        assert self.count("residency_violations_total") == 0


def of_client(record: Mapping[str, Any]) -> bool:
    """Whether it is the record of a client's request."""
    return record["purpose"] == "client" and record["outcome"] != "late"


def cost(attempt: Mapping[str, Any], price: Price) -> float:
    """What the tokens of an attempt cost, USD."""
    cached = price.input if price.cached is None else price.cached
    unread = attempt["prompt_tokens"] - attempt["cached_tokens"]
    sums = unread * price.input + attempt["cached_tokens"] * cached + attempt["completion_tokens"] * price.output
    return float(sums / 1e6)


def check_books(name: str, made: list[dict[str, Any]], core: ScriptedCore) -> None:
    """The attempts at a cluster are what it has seen: all requests, and its tokens where it could tell them.

    Of answers that it could not end, the rest is an estimate, and says so; no more was generated than it has counted.
    """
    given_up = sum(each["outcome"] in {"cancelled", "hedge_lost"} for each in made)  # perhaps before they arrived
    assert len(made) - given_up <= core.seen.requests <= len(made), (name, core.seen.requests, made)
    told = [each for each in made if not each["estimated"]]
    counters = {"prompt_tokens": core.seen.prompt_tokens, "completion_tokens": core.seen.generated_tokens}
    for field, counter in counters.items():
        known, counted = sum(each[field] for each in told), counter.total()
        assert known == counted if told == made else known <= counted, (name, field, known, counted, made)
    assert sum(each["completion_tokens"] for each in made) <= core.seen.generated_tokens.total(), (name, made)


@asynccontextmanager
async def staged(start: Callable[..., Awaitable[Pop]]) -> AsyncIterator[Scene]:
    """A scene, which is checked at its end."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        scene = Scene(start, session)
        try:
            yield scene
            await scene.check()
        finally:
            for core in scene.cores.values():
                await core.stop()
