"""Ten times more than there is room for: what the realtime class still gets, and how quickly the others are refused.

    python -m bench.load.overload [--rounds 3] [--seconds 15] [--slots 8] [--times 10] [--out bench/results]

One scripted core with a few slots stands behind a POP that knows their number (`max_concurrency`). Three tenants with a
key each: `game` (realtime), `app` (standard), `jobs` (batch). Phase `alone`: the game offers half of the core's
capacity. Phase `overload`: it offers the same requests at the same moments, while app and jobs together offer `--times`
the capacity. Requests arrive at random (open loop, Poisson), whatever became of those before them; each is a stream
about something new, past the cache. An answer is good if its first byte came within the class's target of its sending.

Goodput is good answers a second; times are from sending to the last byte. `late` is how far the generator itself fell
behind its schedule: a figure of the client, beside which those of the POP must be read. Both phases of a round use one
fresh POP. The demands: goodput of realtime under overload at least 95 % of what it gets alone; refused requests are
answered within 20 ms (p99) and all carry Retry-After.
"""

import argparse
import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.load import harness
from bench.load.client import Connection, Exchange, connect, post
from bench.load.miss import questions
from edgecache.sim.pop import own_pop

TENANTS = {"game": "realtime", "app": "standard", "jobs": "batch"}
"""Each tenant's class. Its key is its name."""
TOKENS = 6
DEMAND_GOODPUT = 0.95
DEMAND_REFUSAL_MS = 20.0
GRACE = 5.0
"""Seconds that requests get after the last arrival; who still waits then is `unanswered`."""
REFUSED = frozenset({429, 503, 529})


class Arrival(NamedTuple):
    """When a request is sent, in seconds from the start of its phase, and by whom."""

    at: float
    tenant: str


class Outcome(NamedTuple):
    """What became of one request; `answer` is None where none came, `broken` where its connection ended before.

    `late` in seconds.
    """

    tenant: str
    late: float
    answer: Exchange | None = None
    broken: bool = False


async def bench(options: argparse.Namespace) -> dict[str, Any]:
    """Both phases, round by round, each round with a fresh POP."""
    asked = questions(options.seed)
    rounds = []
    for number in range(options.rounds):
        schedule = Schedule(options, random.Random(options.seed + number))
        async with _core(options) as core, _pop(core.url, options) as pop:
            await _phase(pop.url, schedule.warm_up(), asked)
            phases = {}
            for phase, arrivals in (("alone", schedule.alone()), ("overload", schedule.overload())):
                before = harness.cpu_seconds(pop.pid)
                outcomes = await _phase(pop.url, arrivals, asked)
                used = harness.cpu_seconds(pop.pid) - before
                phases[phase] = _figures(outcomes, options) | {"pop_cpu_per_request_ms": 1000 * used / len(outcomes)}
        rounds.append(phases)
    columns = ("phase", "tenant", "offered", "good/s", "refused", "failed", "unanswered", "ttft p50", "ttft p99",
               "refusal p50", "refusal p99")  # fmt: skip
    harness.table(f"{options.times:g} times capacity (ms; medians of the rounds)", columns, _rows(rounds))
    return _verdict(rounds) | {"rounds": rounds}


class Schedule:
    """Who sends when. The game's requests are the same in both phases of a round."""

    def __init__(self, options: argparse.Namespace, rng: random.Random) -> None:
        capacity = options.slots / options.answer
        self._seconds = options.seconds
        self._rng = rng
        self._game = self._poisson("game", options.share * capacity, options.seconds)
        self._others = [
            arrival
            for tenant in ("app", "jobs")
            for arrival in self._poisson(tenant, options.times * capacity / 2, options.seconds)
        ]

    def warm_up(self) -> list[Arrival]:
        """Enough for the POP to learn how quick the core is."""
        return [Arrival(number * 0.05, tenant) for number, tenant in enumerate([*TENANTS] * 20)]

    def alone(self) -> list[Arrival]:
        """The game only."""
        return self._game

    def overload(self) -> list[Arrival]:
        """The game and everybody else."""
        return sorted(self._game + self._others)

    def _poisson(self, tenant: str, rate: float, seconds: float) -> list[Arrival]:
        at, found = self._rng.expovariate(rate), []
        while at < seconds:
            found.append(Arrival(at, tenant))
            at += self._rng.expovariate(rate)
        return found


def _core(options: argparse.Namespace) -> contextlib.AbstractAsyncContextManager[harness.Child]:
    """A core whose answers of `TOKENS` tokens take `options.answer` seconds, half of it until the first token."""
    half = options.answer / 2
    delays = ("--time-to-first-token", str(half), "--inter-token-latency", str(half / (TOKENS - 1)))
    places = ("--max-num-seqs", str(options.slots), "--dialect", "vllm", "--model", harness.MODEL)
    return harness.child("-m", "edgecache", "sim", "core", "--json", "--listen", "127.0.0.1:0", *delays, *places)


@contextlib.asynccontextmanager
async def _pop(core: str, options: argparse.Namespace) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        async with own_pop(_config(Path(folder, "pop.toml"), core, options)) as pop:
            yield pop


def _config(path: Path, core: str, options: argparse.Namespace) -> list[str]:
    tenants = [
        f'[[auth.tenant]]\nid = "{tenant}"\nkeys = ["{tenant}"]\nservice_class = "{service}"\n'
        for tenant, service in TENANTS.items()
    ]
    lines = [
        '[auth]\nmode = "keys"\n',
        *tenants,
        '[embed]\nmodel = "hashing"\n',
        f"[router.classes.realtime]\nttft = {options.target}\n",
        f"""[[upstream]]
name = "core"
url = "{core}"
dialect = "vllm"
models = ["{harness.MODEL}"]
max_concurrency = {options.slots}
""",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return ["--config", str(path)]


async def _phase(url: str, arrivals: Sequence[Arrival], asked: Iterator[str]) -> list[Outcome]:
    """Send everything when it is due; wait for what is still on its way, but not for ever."""
    clients = Clients(url)
    begun = time.perf_counter()
    outcomes: list[Outcome] = []
    async with asyncio.TaskGroup() as group:
        end = begun + arrivals[-1].at + GRACE
        for arrival in arrivals:
            due = begun + arrival.at
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            late = max(0.0, time.perf_counter() - due)
            body = harness.question(next(asked), stream=True, max_tokens=TOKENS)
            headers = {"Authorization": f"Bearer {arrival.tenant}", "EdgeCache-Mode": "bypass"}
            request = post(url, harness.PATH, body, headers)
            group.create_task(_one(clients, request, arrival.tenant, late, end, outcomes))
    clients.close()
    return outcomes


async def _one(
    clients: "Clients", request: bytes, tenant: str, late: float, end: float, outcomes: list[Outcome]
) -> None:
    outcome = Outcome(tenant, late)
    try:
        async with asyncio.timeout(end - time.perf_counter()):
            outcome = outcome._replace(answer=await clients.ask(request))
    except TimeoutError:
        pass
    except OSError:
        outcome = outcome._replace(broken=True)
    outcomes.append(outcome)


class Clients:
    """Connections to one server: one that is free, or a new one; those that broke or were given up are closed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._free: list[Connection] = []

    async def ask(self, request: bytes) -> Exchange:
        """Send `request` at once. Raises OSError when the connection breaks."""
        connection = self._free.pop() if self._free else await connect(self._url)
        try:
            answer = await connection.ask(request)
        except BaseException:
            connection.close()
            raise
        if answer.header("connection") == "close":
            connection.close()
        else:
            self._free.append(connection)
        return answer

    def close(self) -> None:
        """Close the free ones."""
        for connection in self._free:
            connection.close()


def _figures(outcomes: Sequence[Outcome], options: argparse.Namespace) -> dict[str, Any]:
    answered = [outcome.answer for outcome in outcomes if outcome.answer is not None]
    refused = [answer for answer in answered if answer.status in REFUSED]
    return {
        "tenants": {
            tenant: _of_tenant([outcome for outcome in outcomes if outcome.tenant == tenant], options)
            for tenant in TENANTS
        },
        "refused": len(refused),
        "without_retry_after": sum(not answer.header("retry-after") for answer in refused),
        **_percentiles("refusal", [answer.total for answer in refused]),
        **_percentiles("late", [outcome.late for outcome in outcomes]),
    }


def _of_tenant(outcomes: Sequence[Outcome], options: argparse.Namespace) -> dict[str, Any]:
    answered = [outcome.answer for outcome in outcomes if outcome.answer is not None]
    good = [answer for answer in answered if answer.status == 200]
    refused = [answer for answer in answered if answer.status in REFUSED]
    broken = sum(outcome.broken for outcome in outcomes)
    return {
        "offered": len(outcomes),
        "goodput": sum(answer.first <= options.target for answer in good) / options.seconds,
        "refused": len(refused),
        "failed": len(answered) - len(good) - len(refused) + broken,
        "unanswered": len(outcomes) - len(answered) - broken,
        **_percentiles("ttft", [answer.first for answer in good]),
        **_percentiles("refusal", [answer.total for answer in refused]),
    }


def _percentiles(name: str, seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(each * 1000 for each in seconds)
    last = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] if ordered else float("nan")
    return {f"{name}_p50_ms": harness.median(ordered), f"{name}_p99_ms": last}


def _verdict(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not all(_game(each["alone"]) for each in rounds):
        raise RuntimeError("realtime got no good answer even alone: there is nothing to compare with")
    kept = [_game(each["overload"]) / _game(each["alone"]) for each in rounds]
    slowest = harness.median([each["overload"]["refusal_p99_ms"] for each in rounds])
    silent = sum(each["overload"]["without_retry_after"] for each in rounds)
    goodput = harness.median(kept)
    late = harness.median([each["overload"]["late_p99_ms"] for each in rounds])
    cpu = harness.median([each["overload"]["pop_cpu_per_request_ms"] for each in rounds])
    print(f"realtime keeps {goodput:.3f} of its goodput, demand {DEMAND_GOODPUT}")
    print(
        f"refused within {slowest:.1f} ms (p99), demand {DEMAND_REFUSAL_MS:g}; {silent} without Retry-After, demand 0"
    )
    print(f"the generator was late by {late:.1f} ms (p99); the POP used {cpu:.2f} ms of CPU a request under overload")
    return {
        "goodput_kept": goodput,
        "goodput_kept_by_round": kept,
        "refusal_p99_ms": slowest,
        "without_retry_after": silent,
        "generator_late_p99_ms": late,
        "pop_cpu_per_request_ms": cpu,
        "met": goodput >= DEMAND_GOODPUT and slowest <= DEMAND_REFUSAL_MS and not silent,
    }


def _game(phase: Mapping[str, Any]) -> float:
    return float(phase["tenants"]["game"]["goodput"])


def _rows(rounds: Sequence[Mapping[str, Any]]) -> list[list[object]]:
    names = ("offered", "goodput", "refused", "failed", "unanswered", "ttft_p50_ms", "ttft_p99_ms", "refusal_p50_ms",
             "refusal_p99_ms")  # fmt: skip
    return [
        [phase, tenant, *(harness.median([each[phase]["tenants"][tenant][name] for each in rounds]) for name in names)]
        for phase, tenants in (("alone", ["game"]), ("overload", [*TENANTS]))
        for tenant in tenants
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="of a phase")
    parser.add_argument("--slots", type=int, default=8, help="requests that the core generates at once")
    parser.add_argument("--answer", type=float, default=0.1, help="s that one answer takes")
    parser.add_argument("--share", type=float, default=0.5, help="of the capacity, offered by the realtime class")
    parser.add_argument("--times", type=float, default=10.0, help="the capacity, offered by the others together")
    parser.add_argument(
        "--target", type=float, default=0.3, help="s to the first byte that the realtime class is after"
    )
    parser.add_argument("--seed", type=int, default=0)
    harness.run("overload", parser, bench)


if __name__ == "__main__":
    main()
