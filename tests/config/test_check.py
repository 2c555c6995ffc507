from typing import Any

import msgspec
import pytest

from edgecache.config import Config, check

ONE = {"name": "a", "url": "http://a"}
TENANT = {"id": "t", "keys": ["k"]}


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
        ({"auth": {"mode": "keys"}}, "auth.mode", "without any"),
        ({"auth": {"tenant": [TENANT, {"id": "t"}]}}, "auth.tenant", "two tenants are named 't'"),
        ({"auth": {"tenant": [TENANT, {"id": "u", "keys": ["k"]}]}}, "auth.tenant", "share a key"),
        ({"upstream": [ONE, ONE]}, "upstream", "two upstreams are named 'a'"),
        ({"upstream": [{"name": "a", "url": "http://a/v1/"}]}, "upstream[0].url", "/v1"),
        ({"core": {"time_to_first_token_std_dev": 0.05}}, "core.time_to_first_token_std_dev", "30 %"),
        ({"core": {"inter_token_latency_std_dev": 0.0016}}, "core.inter_token_latency_std_dev", "30 %"),
        ({"store": {"max_bytes": 1}}, "store.initial_map_bytes", "max_bytes"),
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
    ],
)
def test_settings_that_fit_together_pass(raw: dict[str, Any]) -> None:
    assert found(raw) == []
