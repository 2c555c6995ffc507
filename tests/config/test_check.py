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
    ],
)
def test_settings_that_fit_together_pass(raw: dict[str, Any]) -> None:
    assert found(raw) == []
