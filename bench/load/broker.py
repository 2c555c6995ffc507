"""What a miss costs through the POP and through its peers: JSON and first bytes of streams, all against one core.

    python -m bench.load.broker [--rounds 5] [--requests 40] [--ttft 0.05] [--seconds 1] [--out bench/results]

* `pass-through` is a bare aiohttp proxy (`bench/load/passthrough.py`), the least that Python on one core can do;
* `POP bypass` uses no cache, `POP exact` looks every question up, finds nothing and keeps the answer;
* LiteLLM's proxy and vllm-router (requirements/peers.txt) run as one process each, `--without` leaves them out.

Every request asks something new. Added times are medians, over the rounds, of the difference between the medians of two
neighbouring blocks. Several connections pause at random between requests (`--think`), as in `bench.load.miss`: in step
they would measure a burst. Requests per second are those of a closed loop: the core answers at once, no connection
pauses, for `--seconds` a block. The core plays vLLM, the only dialect that takes the fields which vllm-router adds.
"""

import argparse
import contextlib
import random
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from bench.load import harness
from bench.load.client import Exchange, drive, post
from bench.load.harness import Child
from bench.load.litellm_proxy import litellm
from bench.load.miss import questions
from bench.load.vllm_router import vllm_router
from edgecache.sim.pop import own_pop

PEERS = ("litellm", "vllm-router")
FORMS = {False: "json, whole", True: "stream, first byte"}
MOST_ADDED = 1.5
"""ms that a miss through the POP may take longer than a direct request, at one connection."""
MOST_TIMES = 2.0
"""How many times what the pass-through adds it may add, at several."""


class Arm(NamedTuple):
    """A way to the core. `status` is what `x-edgecache-status` must say of each answer."""

    url: str
    headers: Mapping[str, str] = {}
    status: str = ""


async def bench(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every combination of answer form and connections, then compare with what is demanded."""
    asked = questions(options.seed)
    results = []
    async with contextlib.AsyncExitStack() as stack:
        core, arms = await _start(stack, options)
        for stream, answer in FORMS.items():
            for connections in options.connections:
                block = _Block(asked, options, stream=stream, connections=connections)
                await _answer_after(core, options.ttft)
                added = await _rounds(arms, options.rounds, block.latency)
                await _answer_after(core, 0.0)
                rates = await _rounds(arms, options.rounds, block.rate) if connections > 1 else []
                results.append(_summary(answer, connections, added, rates))
    columns = ("answer", "connections", "arm", "ms", "added ms", "requests/s", "unexpected")
    harness.table(f"A miss, against the core itself (first token after {options.ttft} s)", columns, _rows(results))
    demands = _demands(results)
    harness.table("Demanded", ("what", "ms", "most", "met"), [list(each.values()) for each in demands])
    return {"table": results, "demands": demands}


async def _start(stack: contextlib.AsyncExitStack, options: argparse.Namespace) -> tuple[str, dict[str, Arm]]:
    """Start everything that is measured; the core's URL and the arms by name."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    core = (await stack.enter_async_context(_core(options.ttft))).url
    through = await stack.enter_async_context(harness.child("-m", "bench.load.passthrough", core))
    pop = await stack.enter_async_context(own_pop(_pop_config(folder, core)))
    arms = {
        "direct": Arm(core),
        "pass-through": Arm(through.url),
        "POP bypass": Arm(pop.url, {"EdgeCache-Mode": "bypass"}, "BYPASS"),
        "POP exact": Arm(pop.url, {"EdgeCache-Mode": "exact"}, "MISS"),
    }
    if "litellm" not in options.without:
        proxy = await stack.enter_async_context(litellm([core], "simple-shuffle"))
        arms["LiteLLM"] = Arm(proxy.url, proxy.headers)
    if "vllm-router" not in options.without:
        arms["vllm-router"] = Arm((await stack.enter_async_context(vllm_router([core]))).url)
    return core, arms


def _core(ttft: float) -> contextlib.AbstractAsyncContextManager[Child]:
    arguments = ["--json", "--listen", "127.0.0.1:0", "--model", harness.MODEL, "--dialect", "vllm"]
    arguments += ["--time-to-first-token", str(ttft), "--inter-token-latency", "0"]
    return harness.child("-m", "edgecache", "sim", "core", *arguments)


def _pop_config(folder: Path, core: str) -> list[str]:
    path = folder / "pop.toml"
    upstream = f'[[upstream]]\nname = "core"\nurl = "{core}"\ndialect = "vllm"\nmodels = ["{harness.MODEL}"]\n'
    path.write_text(upstream, encoding="utf-8")
    return ["--config", str(path)]


async def _answer_after(core: str, seconds: float) -> None:
    """Set the core's time to the first token."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(core + "/admin/config", json={"time-to-first-token": seconds}) as answer,
    ):
        answer.raise_for_status()


class _Block:
    """One block of requests on one arm."""

    def __init__(self, asked: Iterator[str], options: argparse.Namespace, *, stream: bool, connections: int) -> None:
        self._asked = asked
        self._stream = stream
        self._connections = connections
        self._requests = max(options.requests, 4 * connections)
        self._think = options.think if connections > 1 else 0.0
        self._seconds = options.seconds

    async def latency(self, arm: Arm) -> dict[str, float]:
        """Median ms of requests that come at random moments."""
        requests = [self._request(arm) for _ in range(self._requests)]
        exchanges = await drive(arm.url, requests, self._connections, think=self._think)
        good = [each for each in exchanges if _expected(each, arm)]
        times = [each.first if self._stream else each.total for each in good]
        return {"ms": harness.median(times) * 1000, "unexpected": len(exchanges) - len(good)}

    async def rate(self, arm: Arm) -> dict[str, float]:
        """Requests per second when each connection asks again at once."""
        begun = time.perf_counter()
        exchanges = await drive(arm.url, self._requests_until(arm, begun + self._seconds), self._connections)
        took = time.perf_counter() - begun
        good = sum(_expected(each, arm) for each in exchanges)
        return {"rps": good / took, "unexpected": len(exchanges) - good}

    def _request(self, arm: Arm) -> bytes:
        body = harness.question(next(self._asked), stream=self._stream)
        return post(arm.url, harness.PATH, body, arm.headers)

    def _requests_until(self, arm: Arm, end: float) -> Iterable[bytes]:
        while time.perf_counter() < end:
            yield self._request(arm)


def _expected(exchange: Exchange, arm: Arm) -> bool:
    return exchange.status == 200 and exchange.header("x-edgecache-status") == arm.status


async def _rounds(arms: Mapping[str, Arm], count: int, measure: Any) -> list[dict[str, dict[str, float]]]:
    """`count` rounds of one block an arm, in random order; one more before them is thrown away."""
    rounds = []
    for _ in range(count + 1):
        order = random.sample(list(arms), len(arms))
        found = {name: await measure(arms[name]) for name in order}
        rounds.append({name: found[name] for name in arms})
    return rounds[1:]


def _summary(
    answer: str, connections: int, added: list[dict[str, dict[str, float]]], rates: list[dict[str, dict[str, float]]]
) -> dict[str, Any]:
    arms = {
        arm: {
            "median_ms": harness.median([each[arm]["ms"] for each in added]),
            "added_ms": harness.median([each[arm]["ms"] - each["direct"]["ms"] for each in added]),
            "requests_per_second": harness.median([each[arm]["rps"] for each in rates]) if rates else None,
            "unexpected": sum(each[arm]["unexpected"] for each in added + rates),
        }
        for arm in added[0]
    }
    return {"answer": answer, "connections": connections, "arms": arms, "rounds": added, "rates": rates}


def _rows(results: list[dict[str, Any]]) -> list[list[object]]:
    return [
        [each["answer"], each["connections"], arm, *("" if value is None else value for value in found.values())]
        for each in results
        for arm, found in each["arms"].items()
    ]


def _demands(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the POP may add, and what it does."""
    found = []
    for each in results:
        least = each["arms"]["pass-through"]["added_ms"]
        most = MOST_ADDED if each["connections"] == 1 else MOST_TIMES * least
        for arm in ("POP bypass", "POP exact"):
            added = each["arms"][arm]["added_ms"]
            what = f"{arm}, {each['answer']}, {each['connections']} connections"
            found.append({"what": what, "added_ms": added, "most_ms": most, "met": added <= most})
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=40, help="an arm and round; at least four a connection")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--ttft", type=float, default=0.05, help="s to the core's first token")
    parser.add_argument("--think", type=float, default=0.2, help="most s before a request; 0 = all in step, bursts")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each block that counts requests per second")
    parser.add_argument("--without", nargs="+", default=[], choices=PEERS, help="peers that are not measured")
    parser.add_argument("--seed", type=int, default=0)
    harness.run("broker", parser, bench)


if __name__ == "__main__":
    main()
