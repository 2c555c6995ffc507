from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from edgecache.clock import ManualClock, SystemClock
from edgecache.config import (
    Auth,
    AuthTenant,
    Cache,
    Config,
    Ledger,
    Price,
    Route,
    Router,
    RouteTarget,
    Semantic,
    SmallModel,
    Upstream,
    UpstreamModel,
)
from edgecache.daemon import broker
from edgecache.embed.hashing import HashingEmbedder
from edgecache.errors import ConfigError, RateLimited
from edgecache.http.auth import Authenticator
from edgecache.store.records import Record
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Account, Attempt, Tier
from edgecache.upstream.client import UpstreamClient
from tests.conftest import MODEL, configuration

SMALL = (Route(model="m", small=SmallModel(model="s")),)


async def made(config: Config, clock: Any = None) -> broker.Broker:
    metrics = Metrics()
    clients = [UpstreamClient(settings, metrics=metrics) for settings in config.upstream]
    return broker.build(config, clients, Tasks(), clock=clock or SystemClock(), metrics=metrics, rng=Random(1))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configuration(tmp_path / "data", "http://127.0.0.1:9")


async def test_a_ledger_is_kept_beside_the_store(config: Config) -> None:
    built = await made(config)
    assert built.no_ledger == ""
    assert (Path(config.server.data) / "ledger" / "data.mdb").exists()
    await built.close()


async def test_without_a_ledger_requests_are_served_and_the_reason_is_known(config: Config, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ledger").write_text("a file stands where the folder should be")
    built = await made(config)
    assert built.no_ledger
    await built.ledger.flush()
    await built.close()
    off = msgspec.structs.replace(config, router=Router(ledger=Ledger(enabled=False)))
    switched = await made(off)
    assert switched.no_ledger == ""
    await switched.close()


async def test_what_was_spent_before_a_restart_still_counts(config: Config) -> None:
    tenants = (AuthTenant(id="acme", keys=("k",), budget=1.0, period="day"),)
    known = Authenticator(Auth(mode="keys", tenant=tenants))
    clock = ManualClock()
    first = await made(config, clock)
    account, attempt = Account(), Attempt("core", "core", "", MODEL, cost=1.5, outcome="ok")
    first.ledger.begin(account, attempt)
    first.ledger.end(account, attempt)
    first.ledger.close(account, Record(clock.now(), "r", "acme", status=200))
    await first.close()
    again = await made(config, clock)
    await again.restore(known.tenants, clock.now())
    with pytest.raises(RateLimited) as refused:
        again.limits.admit(known.tenant("Bearer k"))
    assert refused.value.code == "insufficient_quota"
    await again.close()


async def test_a_hit_saves_what_the_cheapest_upstream_of_its_own_would_have_cost(config: Config) -> None:
    def upstream(name: str, price: float, tier: Tier = Tier.CORE) -> Upstream:
        return Upstream(
            name=name,
            url="http://127.0.0.1:9",
            models=("real",),
            tier=tier,
            dialect="edgecache" if tier is Tier.PEER else "openai",
            price=Price(input=price, output=2 * price),
        )

    routes = (Route(model="alias", target=(RouteTarget(model="real"),)),)
    built = await made(
        msgspec.structs.replace(
            config,
            upstream=(upstream("dear", 4.0), upstream("cheap", 1.0), upstream("peer", 0.1, Tier.PEER)),
            router=Router(route=routes),
        )
    )
    prices = broker.Prices(built.pool)
    prices.dispatcher = built.dispatcher
    assert prices.rate("alias") == pytest.approx((1e-6, 2e-6))
    assert prices.rate("unheard of") == (0.0, 0.0)
    await built.close()


async def test_other_settings_are_taken_everywhere(config: Config) -> None:
    built = await made(config)
    changed = Router(max_waiting=7, probe_interval=3.0, near=0.5)
    built.take(changed)
    assert built.admission.max_waiting == 7
    assert built.prober.interval == 3.0
    assert built.dispatcher.settings is changed
    assert built.health.settings is changed.ejection
    await built.close()


def test_the_estimate_is_read_only_where_a_route_uses_it(config: Config) -> None:
    assert broker.estimate(config, HashingEmbedder()) is None


@pytest.mark.parametrize("semantic", [True, False])
def test_a_small_model_needs_the_embedder_that_its_estimate_is_for(config: Config, *, semantic: bool) -> None:
    wanted = msgspec.structs.replace(
        config, router=Router(route=SMALL), cache=Cache(semantic=Semantic(enabled=semantic))
    )
    with pytest.raises(ConfigError, match=r"router\.route\.small"):
        broker.estimate(wanted, HashingEmbedder())


async def test_a_tokenizer_that_cannot_be_read_is_refused_by_name(config: Config) -> None:
    (upstream,) = config.upstream
    named = msgspec.structs.replace(upstream, model=(UpstreamModel(name=MODEL, tokenizer="/nowhere/tokenizer.json"),))
    built = await made(config)
    with pytest.raises(ConfigError, match="/nowhere/tokenizer"):
        await built.learn(msgspec.structs.replace(config, upstream=(named,)), HashingEmbedder())
    await built.close()
