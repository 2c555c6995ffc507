from typing import Any

import pytest

from edgecache.errors import EdgeCacheError

pytestmark = pytest.mark.slow
URL = "https://api.example.com/prices?of=tea"


async def test_the_network_answers_what_the_case_says_once(probe: Any) -> None:
    fetch = [{"url": URL, "status": 201, "headers": {"X-Price": "3"}, "body": {"price": 3}}]
    expect = {"body": '201 {"price":3}', "headers": {"x-price": "3"}}
    result = await probe.tried("fetch", headers={"x-url": URL}, fetch=fetch, expect=expect)
    assert result.passed, result.differences
    result = await probe.tried("fetch", headers={"x-url": URL}, expect={"body_contains": "write it under `fetch`"})
    assert result.passed, result.differences


async def test_the_grants_still_decide(probe: Any) -> None:
    fetch = [{"url": "https://evil.example.com/"}]
    expect = {"body_contains": ["denied", "https://evil.example.com is not granted"]}
    result = await probe.tried("fetch", headers={"x-url": "https://evil.example.com/"}, fetch=fetch, expect=expect)
    assert result.passed, result.differences


async def test_a_url_that_is_none_is_an_error_of_the_case(probe: Any) -> None:
    with pytest.raises(EdgeCacheError, match="`fetch` of the case: 'ftp://a': "):
        await probe.tried("fetch", fetch=[{"url": "ftp://a"}])


async def test_models_say_what_the_case_says(probe: Any) -> None:
    assert (await probe.tried("infer", expect={"body": "say it"})).passed
    assert (await probe.tried("infer", llm={"infer": ["said"]}, expect={"body": "said"})).passed
    assert (await probe.tried("embed", llm={"embed": [[0.5, 1]]}, expect={"json": [0.5, 1]})).passed
    result = await probe.tried("embed")
    assert "write one a text under `llm.embed`" in result.differences[0]


async def test_the_cache_holds_what_the_case_says(probe: Any) -> None:
    cache = {"what?": {"answer": {"a": 1}, "similarity": 0.9}}
    result = await probe.tried("lookup", cache=cache, expect={"json": {"answer": {"a": 1}, "similarity": 0.9}})
    assert result.passed, result.differences
    assert (await probe.tried("lookup", expect={"body": "null"})).passed
