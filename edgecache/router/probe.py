"""Looks at every upstream now and then: round trip, whether it serves where nobody else would notice, and its load."""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from math import isnan, nan
from random import Random
from typing import Any
from urllib.parse import urlsplit

from edgecache.clock import Clock
from edgecache.errors import UpstreamError, UpstreamTimeout
from edgecache.router.health import LEAD, Health
from edgecache.router.pool import Pool
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Tier
from edgecache.upstream import load
from edgecache.upstream.client import UpstreamClient

_AT_ONCE = 16
_THREADS = 4
"""Look-ups of names at one time: on threads of their own, so that a name server that hangs holds up nothing else."""
_BARRED = frozenset({401, 403})
_PATIENCE = 2.0
"""Seconds that each part of a look may take."""
_PAUSE = 1.0
"""Seconds between two rounds, and between two looks at one that is left out."""
_JITTER = 0.2
_RESOLVED = 60.0
"""Seconds that the addresses of a name are believed; less once no connection can be made."""
_SMOOTH, _SAMPLES, _OUTLIER = 0.3, 16, 3.0
"""Weight of the newest round trip; of how many the least is known; how many times that one may count for."""

Place = tuple[Any, ...]
"""An address as `socket.connect` takes it."""


class RoundTrip:
    """Seconds of a round trip, smoothed. What is far above the least of the latest was this machine's delay."""

    def __init__(self) -> None:
        self.seconds = nan
        self._latest: deque[float] = deque(maxlen=_SAMPLES)

    def add(self, seconds: float) -> float:
        """Take one more; gives the new estimate."""
        self._latest.append(seconds)
        counted = min(seconds, _OUTLIER * min(self._latest))
        self.seconds = counted if isnan(self.seconds) else self.seconds + _SMOOTH * (counted - self.seconds)
        return self.seconds


class Prober:
    """Looks at all upstreams of `pool`, each every `interval` seconds (may change), a few at a time."""

    def __init__(
        self, pool: Pool, health: Health, *, interval: float, tasks: Tasks, clock: Clock, rng: Random, metrics: Metrics
    ) -> None:
        self.interval = interval
        self._pool = pool
        self._health = health
        self._tasks = tasks
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="probe")
        self._looking: set[str] = set()
        self._looked: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._trips: dict[str, RoundTrip] = {}
        self._places: dict[tuple[str, int], tuple[float, list[Place]]] = {}

    async def run(self) -> None:
        """Look at everybody at once, then at each when it is due; never returns."""
        try:
            while True:
                now = self._clock.monotonic()
                self._health.tick()
                self._pool.refill(now)
                self._forget()
                for client in self._pool.clients:
                    if self._is_due(client.name, now):
                        self._looking.add(client.name)
                        self._tasks.spawn(self._turn(client), name=f"probe {client.name}")
                await asyncio.sleep(min(_PAUSE, self.interval / 4))
        finally:
            self.close()

    def close(self) -> None:
        """Take no more; names that are being asked for end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def look(self, client: UpstreamClient) -> None:
        """Measure the round trip; ask what it serves if nobody knows how it is; read its load, if it tells.

        Takes at most a few seconds, whatever the upstream does.
        """
        name = client.name
        asking = self._health.wants_probe(name)
        serves = await self._connects(client)
        if serves and asking:
            serves = await self._lists(client)
        if asking or not serves:
            self._health.probed(name, ok=serves)
        if serves and (kind := client.settings.load) != "none":
            await self._read(client, kind)

    # ------------------------------------------------------------------------------------------ whose turn it is
    def _is_due(self, name: str, now: float) -> bool:
        if name in self._looking:
            return False
        row = self._pool.board.row[name]
        if out := float(self._pool.board.out[row]):  # only shortly before it may come back does it matter
            return out - now <= LEAD and now - self._looked.get(name, -_PAUSE) >= _PAUSE
        return now >= self._due.get(name, now)

    async def _turn(self, client: UpstreamClient) -> None:
        name = client.name
        try:
            async with self._turns:
                self._looked[name] = self._clock.monotonic()
                self._due[name] = self._looked[name] + self.interval * self._rng.uniform(1 - _JITTER, 1 + _JITTER)
                await self.look(client)
        finally:
            self._looking.discard(name)

    def _forget(self) -> None:
        """Drop what is known of upstreams that are gone."""
        for name in [name for name in self._looked if self._pool.client(name) is None and name not in self._looking]:
            self._looked.pop(name)
            self._due.pop(name)
            self._trips.pop(name, None)
            self._places.clear()
            for gauge in (self._metrics.upstream_rtt, self._metrics.upstream_queued, self._metrics.upstream_kv):
                gauge.remove(name)

    # ------------------------------------------------------------------------------------------ the three looks
    async def _connects(self, client: UpstreamClient) -> bool:
        """Whether a connection can be made; notes how long it took."""
        parts = urlsplit(client.settings.url)
        key = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            async with self._patience(client):
                seconds = await self._round_trip(await self._resolved(*key))
        except OSError:  # a TimeoutError is one, and so is a name that cannot be resolved
            self._places.pop(key, None)
            self._count(client, "connect", "failed")
            return False
        self._count(client, "connect", "ok")
        if (row := self._pool.board.row.get(client.name)) is not None:
            value = self._trips.setdefault(client.name, RoundTrip()).add(seconds)
            self._pool.board.rtt[row] = value
            self._metrics.upstream_rtt.labels(client.name).set(value)
        return True

    async def _lists(self, client: UpstreamClient) -> bool:
        """Whether it says that it serves a model; tells the pool which.

        One that will not say (it wants the client's own credential, or has no list) only has to answer. A neighbour POP
        that does not know this one's key will refuse every request.
        """
        said: list[tuple[str, str]] | UpstreamError
        try:
            async with self._patience(client):
                said = await client.models()
                serves = bool(said)
        except TimeoutError:
            said, serves = UpstreamTimeout(f"{client.name} did not say in time what it serves"), False
        except UpstreamError as error:
            said, serves = error, type(error) is UpstreamError and await self._answers(client)
        if self._pool.client(client.name) is client:
            self._pool.heard(client.name, said)
        self._count(client, "models", "ok" if serves else "failed")
        return serves

    async def _answers(self, client: UpstreamClient) -> bool:
        try:
            async with self._patience(client):
                status, _ = await client.fetch("/v1/models")
        except (UpstreamError, TimeoutError):
            return False
        barred = client.settings.tier is Tier.PEER and status in _BARRED
        return status < 500 and not barred

    async def _read(self, client: UpstreamClient, kind: load.Kind) -> None:
        """Write what it tells of its load onto the board; a failure leaves the last word, which ages."""
        try:
            async with self._patience(client):
                found = await _told(client, kind)
        except (UpstreamError, TimeoutError):
            self._count(client, "load", "failed")
            return
        self._count(client, "load", "unknown" if all(map(isnan, found)) else "ok")
        self._note(client.name, found)

    def _note(self, name: str, found: load.Load) -> None:
        board = self._pool.board
        row = board.row.get(name)
        if row is None:
            return
        board.queued[row], board.running[row], board.capacity[row], board.kv[row] = found
        if not all(map(isnan, found)):
            board.told[row] = self._clock.monotonic()
        self._metrics.upstream_queued.labels(name).set(found.queued)
        self._metrics.upstream_kv.labels(name).set(found.kv)

    # ------------------------------------------------------------------------------------------ connecting
    async def _round_trip(self, places: list[Place]) -> float:
        """Seconds to connect to the first of `places` that can be reached. Raises OSError."""
        problem = OSError("there is no address")
        for place in places:
            began = self._clock.monotonic()
            try:
                async with _connected(place):
                    return self._clock.monotonic() - began
            except OSError as error:
                problem = error
        raise problem

    async def _resolved(self, host: str, port: int) -> list[Place]:
        """The addresses of `host`, asked for at most once a minute. Raises OSError."""
        now = self._clock.monotonic()
        known = self._places.get((host, port))
        if known is not None and now - known[0] < _RESOLVED:
            return known[1]
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:  # a name
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._threads, _ask, host, port)
        places = list(dict.fromkeys(each[4] for each in found))
        self._places[host, port] = now, places
        return places

    def _patience(self, client: UpstreamClient) -> asyncio.Timeout:
        return asyncio.timeout(min(client.settings.connect_timeout or _PATIENCE, _PATIENCE))

    def _count(self, client: UpstreamClient, kind: str, result: str) -> None:
        self._metrics.upstream_probes.labels(client.name, kind, result).inc()


async def _told(client: UpstreamClient, kind: load.Kind) -> load.Load:
    status, body = await client.fetch(load.address(client.settings))
    if status != 200:
        raise UpstreamError(f"{client.name} answered with {status} when asked for its load")
    return load.parse(client.settings.dialect, kind, body)


def _ask(host: str, port: int) -> list[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


@contextlib.asynccontextmanager
async def _connected(place: Place) -> AsyncGenerator[None, None]:
    """A connection to `place`, for as long as the block takes."""
    _, writer = await asyncio.open_connection(place[0], place[1])
    try:
        yield
    finally:
        writer.transport.abort()  # nothing was said: no need to wait for a polite end
