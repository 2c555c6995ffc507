"""One request and what became of it, and the books kept of all of them: metrics and access log."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from edgecache.store.records import Record
from edgecache.telemetry.metrics import observe_all
from edgecache.telemetry.trace import Trace
from edgecache.types import Account, Endpoint, Reply, Tenant

if TYPE_CHECKING:
    from edgecache.http.services import Services

_MODEL_LABELS = 200
"""Models with metric labels of their own; a model is named only after an upstream or the cache has answered for it."""
_BATCH = 64
_DELAY = 0.05
"""Exchanges are booked so many at a time, at most so many seconds late: one by one costs twice as much, because the
code that counts is out of the processor's caches each time."""

NOBODY = Tenant("")
"""The tenant of requests that have not been authenticated."""


class Exchange:
    """One request and what became of it: for the response headers, the access log and the metrics."""

    __slots__ = (
        "account",
        "broken",
        "cache",
        "endpoint",
        "model",
        "reply",
        "request_id",
        "sent",
        "status",
        "tenant",
        "trace",
        "ttft",
    )

    def __init__(self, request_id: str, trace: Trace, endpoint: str) -> None:
        self.request_id = request_id
        self.trace = trace
        self.endpoint = endpoint
        self.tenant = NOBODY
        self.model = ""
        self.cache = "NONE"
        self.reply: Reply | None = None
        self.account: Account | None = None
        self.broken = False
        self.status = 0
        self.sent = 0
        self.ttft = 0.0


_METERED = frozenset(endpoint.value for endpoint in Endpoint)
"""Endpoints whose requests the ledger has."""
EXCHANGE = web.RequestKey("exchange", Exchange)


class Books:
    """Log line and metrics of finished requests, in batches. To be made on the event loop that uses it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._waiting: list[tuple[Exchange, float, float]] = []
        self._models: set[str] = set()
        self._counters: dict[tuple[str, str, int, str], Any] = {}
        self._times: dict[tuple[str, str], tuple[Any, Any]] = {}
        self._stages: dict[str, Any] = {}

    def close(self, exchange: Exchange) -> None:
        """`exchange` has ended."""
        self._waiting.append((exchange, exchange.trace.elapsed(), self._services.clock.now()))
        waiting = len(self._waiting)
        if waiting >= _BATCH:
            self.flush()
        elif waiting == 1:
            asyncio.get_running_loop().call_later(_DELAY, self.flush)

    def flush(self) -> None:
        """Book what waits."""
        waiting, self._waiting = self._waiting, []
        access, ledger = self._services.access, self._services.ledger
        counts: defaultdict[Any, int] = defaultdict(int)
        times: defaultdict[Any, list[float]] = defaultdict(list)
        for exchange, elapsed, now in waiting:
            counts[self._requests(exchange)] += 1
            duration, ttft = self._latencies(exchange.endpoint, exchange.cache)
            times[duration].append(elapsed)
            times[ttft].append(exchange.ttft)
            for stage, seconds in exchange.trace.stages.items():
                times[self._stage(stage)].append(seconds)
            if access is not None:
                access.write(_line(exchange, elapsed, now))
            if exchange.endpoint in _METERED:
                ledger.close(exchange.account, _record(exchange, elapsed, now))
        for counter, count in counts.items():
            counter.inc(count)
        for histogram, values in times.items():
            observe_all(histogram, values)

    def _requests(self, exchange: Exchange) -> Any:
        labels = exchange.endpoint, self._model(exchange), exchange.status, exchange.cache
        child = self._counters.get(labels)
        if child is None:
            child = self._counters[labels] = self._services.metrics.requests.labels(*labels)
        return child

    def _latencies(self, endpoint: str, cache: str) -> tuple[Any, Any]:
        children = self._times.get((endpoint, cache))
        if children is None:
            metrics = self._services.metrics
            children = metrics.request_duration.labels(endpoint, cache), metrics.ttft.labels(endpoint, cache)
            self._times[endpoint, cache] = children
        return children

    def _stage(self, name: str) -> Any:
        child = self._stages.get(name)
        if child is None:
            child = self._stages[name] = self._services.metrics.stage_duration.labels(name)
        return child

    def _model(self, exchange: Exchange) -> str:
        model = exchange.model
        if model in self._models:
            return model
        if not model or exchange.reply is None or exchange.status >= 400:
            return ""
        if len(self._models) >= _MODEL_LABELS:
            return "other"
        self._models.add(model)
        return model


def _record(exchange: Exchange, elapsed: float, now: float) -> Record:
    """What the ledger is told of a request: its attempts it knows already."""
    tenant, reply = exchange.tenant, exchange.reply
    record = Record(
        now - elapsed,
        exchange.request_id,
        tenant.id,
        tenant.writer,
        exchange.endpoint,
        exchange.model,
        exchange.account.service if exchange.account is not None else tenant.terms.service.value,
        cache=exchange.cache,
        status=exchange.status,
        outcome="stream_cut" if exchange.broken else "",
        ttft=exchange.ttft,
        seconds=elapsed,
    )
    if reply is not None:
        record.collapsed = reply.cache.collapsed
        record.prompt_tokens, record.completion_tokens = reply.prompt_tokens or 0, reply.completion_tokens or 0
        if reply.usage is not None and record.collapsed and (usage := reply.usage()) is not None:
            record.prompt_tokens, record.completion_tokens, record.cached_tokens, record.estimated = usage
    return record


def _line(exchange: Exchange, elapsed: float, now: float) -> dict[str, Any]:
    line = {
        "ts": now,
        "request_id": exchange.request_id,
        "tenant": exchange.tenant.id or None,
        "endpoint": exchange.endpoint,
        "model": exchange.model,
        "status": exchange.status,
        "cache": exchange.cache,
        "ttft_ms": round(exchange.ttft * 1000, 3),
        "dur_ms": round(elapsed * 1000, 3),
        "bytes": exchange.sent,
    }
    if (reply := exchange.reply) is not None:
        line["detail"] = reply.cache.detail
        line["similarity"] = reply.cache.similarity
        line["upstream"] = reply.upstream
        line["prompt_tokens"] = reply.prompt_tokens
        line["completion_tokens"] = reply.completion_tokens
    return line
