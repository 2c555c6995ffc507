from typing import Any

import pytest

from edgecache.errors import EdgeCacheError
from edgecache.functions.manifest import Phase
from edgecache.workshop import cases, trial

pytestmark = pytest.mark.slow


async def test_a_case_that_is_met_passes(probe: Any) -> None:
    result = await probe.tried(
        "hello", phase="hit", headers={"x-user": "Ada"}, expect={"headers": {"x-seen": "hit"}, "fault": "answer"}
    )
    assert result.passed, result.differences  # `hello Ada` is no answer of the endpoint: a fault of the function
    result = await probe.tried("hello", headers={"x-user": "Ada"}, expect={"status": 200, "body": "hello Ada"})
    assert result.passed
    assert result.ms > 0
    assert result.cpu_ms > 0


async def test_one_that_is_not_says_what_came_instead(probe: Any) -> None:
    result = await probe.tried("hello", headers={"x-user": "Bob"}, expect={"body": "hello Ada"})
    assert result.differences == ('body: - "hello Ada"', 'body: + "hello Bob"')
    result = await probe.tried("hello", expect={"fault": "cpu"})
    assert result.differences == ("fault: expected cpu, got a response with status 200",)


async def test_a_phase_gives_the_headers_of_the_pop(probe: Any) -> None:
    case = cases.Case(
        name="a",
        expect=cases.Expected(),
        phase=Phase.HIT,
        request=cases.Asked(headers={"X-User": "Ada", "Cookie": "no"}, similarity=0.97, status="SEMANTIC_HIT"),
    )
    headers = dict(trial.request(case).headers)
    assert headers["x-user"] == "Ada"
    assert "cookie" not in headers
    assert headers["x-edgecache-similarity"] == "0.9700"
    assert headers["x-edgecache-status"] == "SEMANTIC_HIT"


async def test_actions_and_204_mean_what_they_mean_in_the_phase(probe: Any) -> None:
    assert (await probe.tried("nothing", phase="hit", expect={"status": 204, "action": ""})).passed
    assert (await probe.tried("miss", phase="hit", expect={"action": "miss"})).passed
    wrong = await probe.tried("miss", phase="response", expect={"action": "miss"})
    assert "which means nothing in phase response" in wrong.differences[0]
    assert (await probe.tried("strange", phase="hit", expect={"fault": "answer"})).passed


async def test_limits_of_the_case_hold(probe: Any) -> None:
    result = await probe.tried("loop", limits={"cpu_ms": 5}, expect={"fault": "cpu"})
    assert result.passed, result.differences
    result = await probe.tried("loop", limits={"cpu_ms": 5}, expect={"fault": "wall"})
    assert result.differences[0].startswith("fault: expected wall, got cpu: ")
    with pytest.raises(EdgeCacheError, match=r"case 'a case': `limits` of the case: .*cpu_mss"):
        await probe.tried("loop", limits={"cpu_mss": 5})


async def test_what_it_throws_is_shown(probe: Any) -> None:
    result = await probe.tried("throw")
    assert "boom" in result.differences[0]


async def test_stores_begin_as_the_case_says_and_are_looked_at_afterwards(probe: Any) -> None:
    kv = {"data": {"visits": "41"}}
    for _ in range(2):  # nothing is left of the case before
        result = await probe.tried("count", kv=kv, expect={"body": "42", "kv": {"data": {"visits": "42", "x": None}}})
        assert result.passed, result.differences
    result = await probe.tried("count", expect={"kv": {"data": {"visits": "7"}}})
    assert result.differences == ("kv data/visits: expected '7', got '1'",)


async def test_what_is_not_granted_is_refused_as_in_production(probe: Any) -> None:
    assert (await probe.tried("foreign", expect={"body": "denied"})).passed


async def test_log_lines_are_looked_at_without_the_secrets(probe: Any) -> None:
    secrets, variables = {"key": "s3cret-key"}, {"colour": "red"}
    result = await probe.tried(
        "secret",
        secrets=secrets,
        variables=variables,
        expect={"body": "s3cret-keyred", "log": "the key is [secret key]"},
    )
    assert result.passed, result.differences
    result = await probe.tried("secret", secrets=secrets, expect={"log": "nothing of that"})
    assert result.differences[0].startswith('log: expected "nothing of that" in it')
    assert result.log == ("the key is [secret key]",)


async def test_clocks_and_randomness_are_those_of_the_case(probe: Any) -> None:
    results = []
    for seed in (0, 0, 1):
        result = await probe.tried("when", now=1e9, seed=seed, expect={"body": "?"})
        results.append(result.differences[1])
    assert results[0] == results[1] != results[2]
    assert "2001-09-09T01:46:40" in results[0]


async def test_a_case_that_cannot_be_is_an_error(probe: Any) -> None:
    with pytest.raises(EdgeCacheError, match=r"`request.status`: 'WARM' is none of HIT"):
        await probe.tried("hello", phase="hit", request={"status": "WARM"})
    with pytest.raises(EdgeCacheError, match=r"`request.path`: '/v2' is none of /v1/chat/completions"):
        await probe.tried("nothing", phase="hit", request={"path": "/v2", "headers": {"x-do": "nothing"}})
