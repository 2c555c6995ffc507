"""The streaming client of one upstream: bounded connect and first-byte times, no redirects, cookies or proxies.

It never retries: `router.dispatch` does, and the error type says when that is safe. A dead keep-alive connection and a
failed connect are both `UpstreamUnreachable`; once a response byte was seen nothing is.
"""

import asyncio
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import aiohttp
import orjson
from prometheus_client import Counter
from yarl import URL

from edgecache import __version__
from edgecache.config import Upstream
from edgecache.errors import UnknownUrl, UpstreamDied, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Call, Endpoint
from edgecache.upstream.answer import UpstreamAnswer
from edgecache.upstream.dialects import forward_headers, forwardable, prepare
from edgecache.upstream.sending import Sending

_LIST_TIMEOUT = 5.0
"""Seconds to get the list of models: requests wait for it."""
_AS_ASKED = Sending()


class UpstreamClient:
    """Sends requests to one configured upstream. Must be built inside a running event loop."""

    def __init__(self, settings: Upstream, *, metrics: Metrics) -> None:
        self.settings = settings
        self.name = settings.name
        self._requests = metrics.upstream_requests
        self._counters: dict[str, Counter] = {}
        self._in_flight = metrics.in_flight
        gauge = metrics.upstream_inflight.labels(settings.name)
        gauge.set_function(partial(metrics.in_flight.__getitem__, settings.name))
        self._open = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._base = settings.url.rstrip("/")
        self._urls = {endpoint: URL(self._base + endpoint.path) for endpoint in Endpoint}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=settings.keepalive),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_connecting(settings.connect_timeout),
            headers={"User-Agent": f"edgecache/{__version__}", "Accept-Encoding": "identity"},
            trust_env=False,
        )

    async def open(self, call: Call, sending: Sending = _AS_ASKED) -> UpstreamAnswer:
        """Send `call` and return once the response head is there, whatever its status.

        Raises `UpstreamUnreachable` when no connection was made or it ended before any response byte,
        `UpstreamTimeout` when the head did not come in time, `UpstreamDied` when it broke off or is not HTTP.
        """
        prepared = prepare(self.settings.dialect, call, sending, priority=self.settings.priority)
        self._authorise(prepared.headers, call.tenant.authorization)
        return await self._answer(
            "POST",
            self._urls[call.endpoint],
            prepared.headers,
            prepared.body,
            endpoint=call.endpoint,
            strip_usage=prepared.strip_usage,
            sending=sending,
        )

    async def forward(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        authorization: str | None = None,
    ) -> UpstreamAnswer:
        """Pass a request for a stored response through; `path` with its query, `headers` with lower-case names.

        `authorization` is the client's own credential where it may travel (`auth.mode = "forward"`), used unless this
        upstream has a key. Raises `UnknownUrl` for any other path, and what `open` raises.
        """
        if not forwardable(method, path):
            raise UnknownUrl(f"{method} {path} is not passed on to upstreams")
        sent = forward_headers(headers)
        self._authorise(sent, authorization)
        return await self._answer(method, URL(self._base + path, encoded=True), sent, body)

    async def models(self) -> list[tuple[str, str]]:
        """`(id, owned_by)` of each model that the upstream says it serves.

        Asked from `/v1/models`, because Dynamo's `/health` is 200 "healthy" with no worker at all. Raises
        `UpstreamError` (and what `open` raises) when there is no usable list.
        """
        headers = {"Accept": "application/json"}
        if self.settings.dialect == "edgecache":
            headers["EdgeCache-Hop"] = "1"  # it then tells of its own models only
        self._authorise(headers, None)
        try:
            async with asyncio.timeout(_LIST_TIMEOUT):
                answer = await self._answer("GET", URL(self._base + "/v1/models"), headers)
                body = await answer.read()
        except TimeoutError as error:
            raise UpstreamTimeout(f"{self.name} did not answer /v1/models within {_LIST_TIMEOUT:g} s") from error
        if answer.status != 200:
            raise UpstreamError(f"{self.name} answered /v1/models with {answer.status}")
        return _models(self.name, body)

    async def fetch(self, url: str) -> tuple[int, bytes]:
        """Status and body of something small that the upstream tells about itself, such as its metrics.

        `url` may be a path. Raises `UpstreamError` (and what `open` raises) where it does not come in time or is too
        large.
        """
        headers = {"Accept": "*/*"}
        self._authorise(headers, None)
        target = URL(url if "://" in url else self._base + url)
        if target.origin() != URL(self._base).origin():
            headers.pop("Authorization", None)  # the key is for the upstream, not for who watches it
        try:
            async with asyncio.timeout(_LIST_TIMEOUT):
                answer = await self._answer("GET", target, headers)
                return answer.status, await answer.read()
        except TimeoutError as error:
            raise UpstreamTimeout(f"{self.name} did not answer {target.path} within {_LIST_TIMEOUT:g} s") from error

    async def idle(self) -> None:
        """Wait until no request is open any more; for an upstream that was taken out of service."""
        await self._quiet.wait()

    async def close(self) -> None:
        """Close all connections, also those in use."""
        await self._session.close()

    def _begin(self) -> None:
        self._in_flight[self.name] += 1
        self._open += 1
        self._quiet.clear()

    def _end(self) -> None:
        self._in_flight[self.name] -= 1
        self._open -= 1
        if not self._open:
            self._quiet.set()

    def _authorise(self, headers: dict[str, str], own: str | None) -> None:
        """The key bound to this upstream, else the client's own credential where it may travel."""
        key = self.settings.api_key
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        elif own is not None:
            headers["Authorization"] = own

    async def _answer(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        endpoint: Endpoint | None = None,
        strip_usage: bool = False,
        sending: Sending = _AS_ASKED,
    ) -> UpstreamAnswer:
        first_byte = _least(self.settings.first_byte_timeout, sending.first_byte_timeout)
        self._begin()
        answered = False
        code = "cancelled"
        try:
            response = await self._send(method, url, headers, body, sending, first_byte)
            answered, code = True, str(response.status)
        except UpstreamError as error:
            code = error.code or "error"
            raise
        finally:
            self._counter(code).inc()
            if not answered:
                self._end()
        return UpstreamAnswer(
            response,
            upstream=self.name,
            endpoint=endpoint,
            strip_usage=strip_usage,
            max_bytes=self.settings.max_response_bytes,
            first_timeout=first_byte,
            idle_timeout=_least(self.settings.idle_timeout, sending.idle_timeout),
            done=self._end,
        )

    def _counter(self, code: str) -> Counter:
        counter = self._counters.get(code)
        if counter is None:
            counter = self._counters[code] = self._requests.labels(self.name, code)
        return counter

    async def _send(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | None,
        sending: Sending,
        limit: float,
    ) -> aiohttp.ClientResponse:
        connect = _least(self.settings.connect_timeout, sending.connect_timeout)
        request = self._session.request(
            method, url, headers=headers, data=body, allow_redirects=False, timeout=_connecting(connect)
        )
        try:
            if not limit or 0 < sending.patience <= limit:
                return await request
            async with asyncio.timeout(limit):
                return await request
        except aiohttp.ConnectionTimeoutError as error:
            raise UpstreamUnreachable(f"no connection to {self.name} within {connect:g} s") from error
        except TimeoutError as error:
            raise UpstreamTimeout(f"{self.name} did not answer within {limit:g} s") from error
        except aiohttp.ServerDisconnectedError as error:
            if isinstance(error.message, str):
                raise UpstreamUnreachable(f"{self.name} closed the connection without an answer") from error
            raise UpstreamDied(f"{self.name} broke off in the response head") from error
        except (aiohttp.ClientConnectionError, OSError) as error:
            raise UpstreamUnreachable(f"{self.name} cannot be reached ({type(error).__name__})") from error
        except aiohttp.ClientError as error:
            raise UpstreamDied(f"{self.name} answered with something other than HTTP") from error


@lru_cache(maxsize=64)
def _connecting(limit: float) -> aiohttp.ClientTimeout:
    """No time-out but this one to connect, 0 = none. There are as many as upstreams and service classes have."""
    return aiohttp.ClientTimeout(total=None, connect=limit or None)


def _least(own: float, asked: float) -> float:
    """The shorter of two times in seconds, of which 0 means none."""
    return min(own, asked) if own and asked else own or asked


def _models(name: str, body: bytes) -> list[tuple[str, str]]:
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UpstreamError(f"{name} answered /v1/models with something other than JSON") from error
    items = found.get("data") if isinstance(found, dict) else None
    if not isinstance(items, list):
        raise UpstreamError(f"{name} answered /v1/models without a list of models")
    return [
        (item["id"], str(item.get("owned_by") or name))
        for item in items
        if isinstance(item, dict) and isinstance(item.get("id"), str)
    ]
