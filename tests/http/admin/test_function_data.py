from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from edgecache.config import Functions
from tests.conftest import Pop
from tests.http.admin.test_functions import ROOT, upload

GREET = ROOT + "/greet"


@pytest.fixture
async def admin(start_pop, core) -> AsyncIterator[httpx.AsyncClient]:
    pop: Pop = await start_pop(core.url, functions=Functions(kv_keys=3))
    async with httpx.AsyncClient(base_url=pop.admin_url, timeout=60) as client:
        assert (await client.post(ROOT, **upload())).status_code == 200
        yield client


async def test_secrets_go_in_and_never_come_back_out(admin) -> None:
    assert (await admin.put(GREET + "/secrets/API_KEY", json={"value": "hush-hush"})).json() == {"stored": ["API_KEY"]}
    assert (await admin.post(GREET + "/secrets", json={"values": {"B": "2222", "A": "1111"}})).json() == {
        "stored": ["A", "B"]
    }
    told = await admin.get(GREET + "/secrets")
    assert [each["name"] for each in told.json()["secrets"]] == ["A", "API_KEY", "B"]
    assert "hush" not in told.text
    assert (await admin.delete(GREET + "/secrets/A")).json() == {"deleted": "A"}
    assert (await admin.delete(GREET + "/secrets/A")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/secrets/A", {}),
        ("PUT", "/secrets/A", {"value": 1}),
        ("PUT", "/secrets/a%20b", {"value": "x"}),
        ("POST", "/secrets", {"values": ["A"]}),
        ("POST", "/secrets", {"values": {"A": "1", "b c": "2"}}),
    ],
)
async def test_secrets_that_make_no_sense_are_refused_and_none_of_them_is_kept(
    admin, method: str, path: str, body: Any
) -> None:
    assert (await admin.request(method, GREET + path, json=body)).status_code == 400
    assert (await admin.get(GREET + "/secrets")).json() == {"secrets": []}


async def test_values_are_bytes_under_keys_that_may_hold_slashes(admin) -> None:
    value = bytes(range(256))
    assert (await admin.put(GREET + "/kv/risk/a/b", content=value)).json() == {"stored": "a/b", "bytes": 256}
    await admin.put(GREET + "/kv/risk/c?ttl=60", content=b"1")
    answer = await admin.get(GREET + "/kv/risk/a/b")
    assert (answer.content, answer.headers["content-type"]) == (value, "application/octet-stream")
    listed = (await admin.get(GREET + "/kv/risk/")).json()
    assert listed["keys"] == ["a/b", "c"]
    assert listed["usage"]["keys"] == 2
    assert (await admin.get(GREET + "/kv/risk/?prefix=a&limit=1")).json()["keys"] == ["a/b"]
    assert (await admin.get(GREET + "/kv/other/")).json()["keys"] == []
    assert (await admin.delete(GREET + "/kv/risk/a/b")).status_code == 200
    assert (await admin.delete(GREET + "/kv/risk/a/b")).status_code == 404
    assert (await admin.get(GREET + "/kv/risk/a/b")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("GET", "/kv/risk/?limit=0", "`limit`"),
        ("GET", "/kv/risk/?limit=x", "`limit`"),
        ("PUT", "/kv/risk/a?ttl=soon", "`ttl`"),
        ("PUT", "/kv/risk/a?ttl=-1", "`ttl`"),
        ("PUT", "/kv/risk/" + "a" * 1100, "1024"),
    ],
)
async def test_data_that_makes_no_sense_is_refused(admin, method: str, path: str, said: str) -> None:
    answer = await admin.request(method, GREET + path, content=b"1" if method == "PUT" else None)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]


async def test_a_quota_that_is_reached_is_told_with_its_number(admin) -> None:
    for key in "abc":
        assert (await admin.put(f"{GREET}/kv/risk/{key}", content=b"1")).status_code == 200
    answer = await admin.put(GREET + "/kv/other/d", content=b"1")
    assert answer.status_code == 400
    assert "3" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/secrets/A", "/kv/risk/a"])
async def test_nothing_is_kept_for_a_function_that_does_not_exist(admin, path: str) -> None:
    answer = await admin.put(ROOT + "/other" + path, json={"value": "x"})
    assert answer.status_code == 404
