"""A mixed load over three clusters with prices, and a usage report that says what the clusters have counted."""

import asyncio
import csv
import io
import json
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from edgecache.cli import main
from edgecache.config import Hedging, Mirror, Price, Route, Router, RouteTarget, SmallModel
from edgecache.router.complexity import FORMAT, Complexity
from edgecache.sim.upstream import ScriptedCore
from edgecache.types import Tier
from tests.conftest import MODEL
from tests.e2e.scene import Scene, check_complete

pytestmark = pytest.mark.slow
PRICES = {
    "edge": Price(input=0.05, output=0.1, version="v1"),
    "near": Price(input=0.5, output=1.5, cached=0.125, version="v1"),
    "far": Price(input=3.0, output=9.0, version="v2"),
}
"""USD per million tokens."""
SMALL, SPARE = "small-one", "spare"
LONG = "What is known of the lantern and the harbour? " * 30
"""So long a beginning is in a cluster's KV cache the second time."""
TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens")


async def three(scene: Scene) -> Router:
    """The clusters, and a POP with routes for every kind of leg; returns its settings."""
    places = {
        "edge": ("vllm", Tier.EDGE, (SMALL,)),
        "near": ("trtllm", Tier.REGIONAL, (MODEL,)),
        "far": ("dynamo", Tier.CORE, (MODEL, SPARE)),
    }
    for name, (dialect, tier, models) in places.items():
        await scene.core(name, dialect=dialect, models=models, price=PRICES[name], upstream={"tier": tier})
    routes = (
        Route(model="compared", target=(RouteTarget(model=MODEL),), mirror=Mirror(model=SPARE, sample=1.0)),
        Route(model="missing", target=(RouteTarget(model="nobody-serves-it"),), fallback=(SPARE,)),
    )
    pop = await scene.open(
        route=routes,
        hedging=Hedging(ratio=1.0, retries=1.0, burst=100),
        classes={"realtime": {"hedge": True, "ttft": 5.0}},
        probe_interval=3600.0,
    )
    return pop.daemon.config.router


async def let_small_ones_answer(scene: Scene, settings: Router) -> None:
    """As after a reload, with an estimate that holds every question for easy; each such answer is compared."""
    daemon = scene.pop.daemon
    embedder = daemon.embedder.embedder
    size = embedder.dimension
    easy = {"format": FORMAT, "embedder": embedder.name, "dimension": size, "weights": [0.0] * size}
    known = {"bias": 0.0, "slope": 1.0, "offset": 0.0, "low": 0.9, "high": 0.9}
    found = Complexity.decode(msgspec.json.encode(easy | known), embedder.name, size)
    route = Route(model="easy", target=(RouteTarget(model=MODEL),), small=SmallModel(model=SMALL, sample=1.0))
    rules = msgspec.structs.replace(settings, route=(route, *settings.route))
    daemon.broker.take(rules)
    daemon.broker.reader.replace(rules, complexity=found)
    daemon.parts.mirrors.settings = rules


async def mixed_load(scene: Scene) -> None:
    """Misses and hits, whole and streamed, shared ones, failovers, hedges, fallbacks, small models, comparisons."""
    near, far = scene.cores["near"], scene.cores["far"]
    asked = [await scene.ask(stream=number % 2 == 0) for number in range(8)]
    for got in asked:
        check_complete(got)
        assert (await scene.again(got, stream=got.question != asked[0].question)).cache == "HIT"
    many = await asyncio.gather(*(scene.ask("What do many ask at once?", stream=n % 2 == 0) for n in range(6)))
    assert len({got.text for got in many}) == 1
    for number in range(3):
        check_complete(await scene.ask(f"{LONG} {number}?"))
    usage = {"stream_options": {"include_usage": True}}
    assert json.loads((await scene.ask(stream=True, **usage)).events[-2])["usage"]["completion_tokens"]
    near.configure(failure_injection_rate=1.0, failure_types=("server_error",))
    assert [(await scene.ask(stream=stream)).by for stream in (False, True)] == ["far"] * 2
    near.configure(failure_types=("null_body",))
    assert (await scene.ask()).by == "far"
    near.configure(failure_injection_rate=0.0, time_to_first_token=30.0)
    assert [(await scene.ask(service="realtime", stream=True)).by for _ in range(3)].count("far") >= 1
    near.configure(time_to_first_token=0.0)
    for model in ("missing", "compared", "easy"):
        for stream in (False, True):
            got = await scene.ask(model=model, stream=stream, mode="default")
            assert got.status == 200
            await scene.idle()
    assert far.seen.generated_tokens[SPARE] > 0
    assert scene.cores["edge"].seen.finished == 2


async def reported(scene: Scene, *options: str) -> str:
    """What `edgecache usage report` prints."""
    command = ["usage", "report", "--admin", scene.pop.admin_url.removeprefix("http://"), "--since", "1h", *options]
    result = await asyncio.to_thread(CliRunner().invoke, main.app, command)
    assert result.exit_code == 0, result.exception
    return result.stdout


def counted(core: ScriptedCore) -> dict[str, int]:
    """A cluster's own counters, as its metrics have them."""
    seen = core.seen
    counters = (seen.prompt_tokens, seen.generated_tokens, seen.cached_tokens)
    return {name: counter.total() for name, counter in zip(TOKENS, counters, strict=True)}


def priced(row: dict[str, Any], price: Price) -> float:
    cached = price.input if price.cached is None else price.cached
    read = (row["prompt_tokens"] - row["cached_tokens"]) * price.input + row["cached_tokens"] * cached
    return float((read + row["completion_tokens"] * price.output) / 1e6)


async def test_the_report_by_upstream_is_what_the_clusters_have_counted_times_their_prices(scene) -> None:
    await let_small_ones_answer(scene, await three(scene))
    await mixed_load(scene)
    await scene.idle()
    records = await scene.records()
    found = json.loads(await reported(scene, "--by", "upstream", "--json"))
    rows = {row["upstream"]: row for row in found["rows"]}
    assert rows.keys() == {*PRICES, ""}  # hits and shared answers come from none
    lost = [each for record in records for each in record["attempts"] if each["estimated"]]
    assert {(each["upstream"], each["outcome"]) for each in lost} == {("near", "hedge_lost")}
    assert sum(each["completion_tokens"] for each in lost) == 0  # a prompt that nobody has counted: it was given up
    for name, price in PRICES.items():
        row, told = rows[name], {field: rows[name][field] for field in TOKENS}
        told["prompt_tokens"] -= row["estimated_tokens"]
        assert told == counted(scene.cores[name])
        assert (row["estimated_tokens"] > 0) == (name == "near")
        assert row["cost_usd"] == pytest.approx(priced(row, price), abs=1e-11)
        assert row["upstream_requests"] == scene.cores[name].seen.requests
    assert rows["near"]["cached_tokens"] > 0
    assert rows["far"]["hedges"] > 0
    assert {record["purpose"] for record in records} >= {"client", "mirror", "sample"}
    total = found["total"]
    assert total["requests"] == scene.asked
    assert total["cost_usd"] == pytest.approx(sum(row["cost_usd"] for row in rows.values()), abs=1e-11)
    for field in TOKENS:
        assert total[field] == sum(row[field] for row in rows.values())
    assert total["hits"] == 8
    assert total["avoided_tokens"] > 0


async def test_every_way_of_adding_up_comes_to_the_same_and_to_the_metrics(scene) -> None:
    await let_small_ones_answer(scene, await three(scene))
    await mixed_load(scene)
    await scene.idle()
    await scene.records()
    totals = []
    for by in ("upstream", "tier,region", "tenant,model,tier", "class,purpose", "day,cache"):
        rows = list(csv.DictReader(io.StringIO(await reported(scene, "--by", by, "--csv"))))
        sums = [sum(int(row[field]) for row in rows) for field in (*TOKENS, "requests", "upstream_requests")]
        totals.append((sums, round(sum(float(row["cost_usd"]) for row in rows), 11)))
    assert totals == [totals[0]] * len(totals)
    spent = measured(scene, "edgecache_cost_usd_total")
    assert totals[0][1] == pytest.approx(spent, abs=1e-11)
    prompt, completion = totals[0][0][:2]
    assert measured(scene, "edgecache_tokens_total", type="prompt") == prompt
    assert measured(scene, "edgecache_tokens_total", type="completion") == completion


def measured(scene: Scene, name: str, **labels: str) -> float:
    """A metric of the POP, all its lines that have these labels together."""
    families = scene.pop.daemon.metrics.registry.collect()
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())
