"""A POP killed with -9 in the middle of fills: what was acknowledged is there again, what was purged is not."""

import asyncio
import contextlib
import os
import random
import signal
from pathlib import Path

import aiohttp
import pytest

from edgecache.sim.pop import own_pop

ROUNDS = 3
BEHIND = 8
"""How many questions later an answer is looked for: copies are made a moment after the answer."""
HASHING = """
[embed]
model = "hashing"
[core]
time_to_first_token = 0.0
inter_token_latency = 0.0
[log]
access = false
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "edgecache.toml"
    path.write_text(HASHING)
    return path


def question(prefix: str, number: int) -> str:
    return f"{prefix} question number {number}: how deep is the lake?"


async def ask(session: aiohttp.ClientSession, url: str, question: str, **headers: str) -> str:
    """The `x-edgecache-status` of the answer."""
    body = {"model": "edge-test", "messages": [{"role": "user", "content": question}]}
    async with session.post(url + "/v1/chat/completions", json=body, headers=headers) as response:
        await response.read()
        assert response.status in {200, 504}
        return response.headers.get("x-edgecache-status", "NONE")


async def fill(
    session: aiohttp.ClientSession, pop, prefix: str, acknowledged: set[str], purged: set[str], told
) -> None:
    """Ask new questions until the POP is gone; what is served as a hit counts as acknowledged."""
    number = 0
    while True:
        number += 1
        await ask(session, pop.url, question(prefix, number), **{"EdgeCache-Tags": f"{prefix}-{number}"})
        earlier = number - BEHIND
        if earlier < 1:
            continue
        if await ask(session, pop.url, question(prefix, earlier), **{"Cache-Control": "only-if-cached"}) == "HIT":
            acknowledged.add(question(prefix, earlier))
        if number % 5 == 0:
            acknowledged.discard(question(prefix, earlier))  # in doubt from here on, should the answer not come
            async with session.post(pop.admin + "/admin/v1/purge", json={"tags": [f"{prefix}-{earlier}"]}) as response:
                if response.status == 200:
                    purged.add(question(prefix, earlier))
                    told()


async def fill_until_killed(pop, seed: int, acknowledged: set[str], purged: set[str]) -> None:
    enough, target = asyncio.Event(), len(purged) + random.Random(seed).randint(10, 30)

    def told() -> None:
        if len(purged) >= target:
            enough.set()

    async with aiohttp.ClientSession() as session:
        workers = [
            asyncio.ensure_future(fill(session, pop, f"{seed}-{n}", acknowledged, purged, told))  # noqa: TID251
            for n in range(4)
        ]
        await enough.wait()
        os.kill(pop.pid, signal.SIGKILL)
        for result in await asyncio.gather(*workers, return_exceptions=True):
            assert isinstance(result, aiohttp.ClientError | ConnectionError), result


async def drift(session: aiohttp.ClientSession, admin: str) -> float:
    async with session.get(admin + "/metrics") as response:
        for line in (await response.text()).splitlines():
            if line.startswith("edgecache_index_drift "):
                return float(line.split()[1])
    raise AssertionError("no drift metric")


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_and_nothing_purged_comes_back(tmp_path: Path, config: Path) -> None:
    acknowledged: set[str] = set()
    purged: set[str] = set()
    data = tmp_path / "data"
    for seed in range(ROUNDS):
        with contextlib.suppress(ProcessLookupError):
            async with own_pop(["--config", str(config)], data=data) as pop:
                await fill_until_killed(pop, seed, acknowledged, purged)
    assert acknowledged
    assert purged
    async with own_pop(["--config", str(config)], data=data) as pop, aiohttp.ClientSession() as session:
        only_cached = {"Cache-Control": "only-if-cached", "EdgeCache-Mode": "exact"}
        assert {q for q in acknowledged if await ask(session, pop.url, q, **only_cached) != "HIT"} == set()
        assert {q for q in purged if await ask(session, pop.url, q, **only_cached) == "HIT"} == set()
        assert await drift(session, pop.admin) == 0
