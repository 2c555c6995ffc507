from typing import Any

import msgspec
import pytest

from edgecache.config import Config, check

ONE = {"name": "a", "url": "http://a"}
TENANT = {"id": "t", "keys": ["k"]}
KEYS = {"mode": "keys"}
DEVELOPER = {"tenant": "t", "tokens": ["d"]}
NOBODY = {"tenant": "t", "tokens": [""]}
WIDE = {"tenant": "t", "budget": 0.1}
PEER = {"name": "n", "url": "http://n", "tier": "peer", "dialect": "edgecache"}
EU = ONE | {"jurisdiction": "EU"}
OWN = {"key": "own", "name": "app"}
ROUTE = {"model": "m", "fallback": ["n"]}
SIMILAR = {"policy": "similarity", "similarity": 0.5}


def found(raw: dict[str, Any]) -> list[tuple[str, str]]:
    return list(check.findings(msgspec.convert(raw, Config)))


@pytest.mark.parametrize(
    ("raw", "key", "reason"),
    [
        ({"server": {"listen": "8080"}}, "server.listen", "host:port"),
        ({"admin": {"listen": "x:y"}}, "admin.listen", "port 'y'"),
        ({"admin": {"listen": "0.0.0.0:8081"}}, "admin.listen", "admin.token"),
        ({"server": {"listen": "0.0.0.0:8080"}}, "server.listen", "without keys"),
        ({"server": {"listen": "127.0.0.1:8081"}}, "admin.listen", "same"),
        ({"admin": {"developer": [DEVELOPER]}}, "admin.developer", "without admin.token"),
        ({"admin": {"token": "d", "developer": [DEVELOPER]}}, "admin.developer", "share a token"),
        ({"admin": {"token": "t", "developer": [DEVELOPER, DEVELOPER]}}, "admin.developer", "share a token"),
        ({"admin": {"token": "t", "developer": [NOBODY]}}, "admin.developer[0].tokens", "a token is empty"),
        ({"functions": {"private": ["10.0.0.1/8"]}}, "functions.private", "host bits"),
        ({"functions": {"trusted": ["AAAA"]}}, "functions.trusted", "32 bytes"),
        ({"functions": {"trusted": ["not base64"]}}, "functions.trusted", "32 bytes"),
        ({"functions": {"signatures": "required"}}, "functions.trusted", "is empty"),
        ({"auth": {"mode": "keys"}}, "auth.mode", "without any"),
        ({"auth": {"tenant": [TENANT, {"id": "t"}]}}, "auth.tenant", "two tenants are named 't'"),
        ({"auth": {"tenant": [TENANT, {"id": "u", "keys": ["k"]}]}}, "auth.tenant", "share a key"),
        ({"upstream": [ONE, ONE]}, "upstream", "two upstreams are named 'a'"),
        ({"upstream": [{"name": "a", "url": "http://a/v1/"}]}, "upstream[0].url", "/v1"),
        ({"upstream": [ONE | {"tier": "peer"}]}, "upstream[0].tier", "dialect"),
        ({"upstream": [PEER | {"tier": "core"}]}, "upstream[0].tier", "dialect"),
        ({"upstream": [ONE | {"load": "trtllm_json"}]}, "upstream[0].load", "trtllm-serve"),
        ({"upstream": [ONE | {"load": "prometheus"}]}, "upstream[0].load_url", "is needed"),
        ({"upstream": [ONE | {"load_url": "/metrics"}]}, "upstream[0].load_url", "no effect"),
        (
            {"upstream": [ONE | {"load": "prometheus", "load_url": "metrics"}]},
            "upstream[0].load_url",
            "neither a path nor a URL",
        ),
        ({"upstream": [ONE | {"priority": True}]}, "upstream[0].priority", "knows none"),
        ({"upstream": [ONE | {"model": [{"name": "m"}, {"name": "m"}]}]}, "upstream[0].model", "two tables"),
        ({"upstream": [ONE | {"models": ["l"], "model": [{"name": "m"}]}]}, "upstream[0].model", "not among"),
        ({"router": {"route": [{"model": "m"}]}}, "router.route[0]", "says nothing"),
        ({"router": {"route": [ROUTE, ROUTE | {"tenant": "t"}]}}, "router.route[1]", "never reached"),
        (
            {"router": {"ledger": {"enabled": False}}, "auth": {"tenant": [TENANT | {"budget": 5.0}]}},
            "router.ledger.enabled",
            "budgets need",
        ),
        ({"upstream": [EU], "auth": {"tenant": [TENANT | {"residency": ["CH"]}]}}, "auth.tenant[0].residency", "no up"),
        ({"upstream": [ONE], "router": {"residency": ["CH"]}}, "router.residency", "no upstream"),
        ({"auth": {"tenant": [TENANT | {"key": [{"key": "k"}]}]}}, "auth.tenant[0].key", "twice"),
        ({"auth": {"tenant": [TENANT | {"key": [OWN, OWN | {"key": "p"}]}]}}, "auth.tenant[0].key", "named 'app'"),
        (
            {"auth": {"tenant": [TENANT | {"service_class": "batch", "key": [OWN | {"service_class": "realtime"}]}]}},
            "auth.tenant[0].key[0].service_class",
            "better than that of its tenant",
        ),
        ({"auth": {"tenant": [TENANT], "peers": ["k"]}}, "auth.peers", "of a tenant too"),
        ({"auth": {"peers": [""]}}, "auth.peers", "is empty"),
        ({"core": {"time_to_first_token_std_dev": 0.05}}, "core.time_to_first_token_std_dev", "30 %"),
        ({"core": {"inter_token_latency_std_dev": 0.0016}}, "core.inter_token_latency_std_dev", "30 %"),
        ({"store": {"max_bytes": 1}}, "store.initial_map_bytes", "max_bytes"),
        ({"cache": {"learning": {"agree": 0.6}}}, "cache.learning.differ", "not below"),
        ({"cache": {"learning": {"judge": "j"}}, "upstream": [ONE | {"models": ["m"]}]}, "cache.learning.judge", "'j'"),
        ({"cache": {"semantic": SIMILAR}}, "cache.semantic.similarity", "no effect"),
        ({"cache": {"semantic": {"scope": [{"tenant": "t"}]}}}, "cache.semantic.scope[0]", "overrides nothing"),
        ({"cache": {"semantic": {"scope": [{"budget": 0.1}]}}}, "cache.semantic.scope[0]", "every request"),
        ({"cache": {"semantic": {"scope": [WIDE, WIDE | {"model": "m"}]}}}, "cache.semantic.scope[1]", "never reached"),
        (
            {"cache": {"semantic": {"scope": [WIDE]}}, "auth": KEYS | {"tenant": [{"id": "u"}]}},
            "cache.semantic.scope[0]",
            "'t'",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_found(raw: dict[str, Any], key: str, reason: str) -> None:
    ((where, what),) = found(raw)
    assert where == key
    assert reason in what


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"admin": {"listen": "0.0.0.0:8081", "token": "t"}},
        {"server": {"listen": "0.0.0.0:8080"}, "auth": {"anonymous": True}},
        {"server": {"listen": "0.0.0.0:8080"}, "auth": {"mode": "keys", "tenant": [TENANT]}},
        {"server": {"listen": "0.0.0.0:8080"}, "auth": {"mode": "forward"}},
        {"auth": {"mode": "keys", "tenant": [{"id": "revoked"}]}},
        {"server": {"listen": "127.0.0.1:0"}, "admin": {"listen": "127.0.0.1:0"}},
        {"core": {"time_to_first_token": 1, "time_to_first_token_std_dev": 0.3}},
        {"cache": {"learning": {"judge": "j"}}, "upstream": [ONE]},
        {"cache": {"semantic": {"scope": [WIDE | {"model": "m"}, WIDE]}}},
        {"cache": {"semantic": {"similarity": 0.5}}},
        {"upstream": [PEER, ONE]},
        {"upstream": [ONE | {"load": "prometheus", "load_url": "http://a:8002/metrics"}]},
        {"upstream": [ONE | {"dialect": "vllm", "load": "prometheus", "priority": True}]},
        {"upstream": [ONE], "router": {"residency": ["CH"], "discovery": "upstreams.json"}},
        {"upstream": [EU], "router": {"residency": ["EU", "CH"]}},
        {"router": {"route": [ROUTE | {"tenant": "t"}, ROUTE]}},
        {"router": {"route": [{"model": "m", "gpu_memory": 80}]}},
        {"auth": {"tenant": [TENANT | {"service_class": "realtime", "key": [OWN | {"service_class": "batch"}]}]}},
    ],
)
def test_settings_that_fit_together_pass(raw: dict[str, Any]) -> None:
    assert found(raw) == []
