import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from wasmtime import wat2wasm

from edgecache.config import Admin, AdminDeveloper, Functions
from edgecache.functions import manifest as manifests
from edgecache.functions.signature import sign
from edgecache.functions.versions import artefact_digest
from tests.conftest import Pop

ROOT = "/admin/v1/functions"
HIT = {"name": "greet", "bind": [{"phase": "hit"}]}


def saying(text: str) -> bytes:
    """A function that answers every request with status 200, `x-said: TEXT` and no body."""
    answer = f"200\nx-said: {text}\n\n".encode()
    data = "".join(f"\\{byte:02x}" for byte in answer)
    return bytes(
        wat2wasm(
            f"""(module (memory (export "memory") 1) (data (i32.const 16) "{data}")
        (func (export "alloc") (param i32) (result i32) i32.const 1024)
        (func (export "handle") (param i32 i32) (result i64) i64.const {16 << 32 | len(answer)}))"""
        )
    )


def upload(text: str = "one", manifest: dict[str, Any] | None = None, **parts: str) -> dict[str, Any]:
    found = {"manifest": (None, msgspec.json.encode(manifest or HIT)), "artefact": (None, saying(text))}
    return {"files": found | {name: (None, value) for name, value in parts.items()}}


@pytest.fixture
async def admin(pop: Pop) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=pop.admin_url, timeout=60) as client:
        yield client


async def test_an_upload_runs_at_once_and_the_next_one_as_a_canary(admin) -> None:
    first = (await admin.post(ROOT, **upload("one", message="hello"))).json()
    assert (first["name"], first["number"], first["kind"]) == ("greet", 1, "core")
    assert first["split"] == {"stable": 1, "canary": None, "weight": 0.0}
    second = (await admin.post(ROOT, **upload("two", canary="10%"))).json()
    assert second["split"] == {"stable": 1, "canary": 2, "weight": 0.1}
    assert [each["number"] for each in (await admin.get(ROOT + "/greet/versions")).json()["versions"]] == [2, 1]
    assert [each["runs"] for each in (await admin.get(ROOT + "/greet/versions")).json()["versions"]] == [
        "canary",
        "stable",
    ]
    (listed,) = (await admin.get(ROOT)).json()["functions"]
    assert (listed["tenant"], listed["name"], listed["versions"]) == ("default", "greet", 2)


async def test_the_way_of_a_version_from_canary_to_stable_and_back(admin) -> None:
    await admin.post(ROOT, **upload("one"))
    await admin.post(ROOT, **upload("two", canary="5"))
    more = await admin.post(ROOT + "/greet/split", json={"weight": 0.5})
    assert more.json()["split"] == {"stable": 1, "canary": 2, "weight": 0.5}
    assert (await admin.post(ROOT + "/greet/promote")).json()["split"]["stable"] == 2
    back = (await admin.post(ROOT + "/greet/rollback", json={"message": "two was worse"})).json()
    assert back["split"] == {"stable": 1, "canary": None, "weight": 0.0}
    assert [each["what"] for each in back["history"]] == ["rollback", "promote", "split", "deploy", "deploy"]
    assert back["history"][0]["message"] == "two was worse"
    assert (await admin.post(ROOT + "/greet/rollback", json={"version": 2})).json()["split"]["stable"] == 2


async def test_status_stats_and_limits_say_what_runs_how_it_went_and_what_it_may_take(admin) -> None:
    await admin.post(ROOT, **upload("one"))
    status = (await admin.get(ROOT + "/greet")).json()
    assert status["manifest"]["name"] == "greet"
    assert (status["stats"]["1"]["calls"], status["stats"]["1"]["where"]) == (0, "thread")
    assert (await admin.get(ROOT + "/greet/stats")).json()["stats"].keys() == {"1"}
    limits = {each["name"]: each for each in (await admin.get(ROOT + "/greet/limits")).json()["limits"]}
    assert limits["cpu_ms"]["granted"] == 50


async def test_a_deleted_function_is_gone(admin) -> None:
    await admin.post(ROOT, **upload("one"))
    assert (await admin.delete(ROOT + "/greet")).json() == {"deleted": "greet"}
    assert (await admin.get(ROOT + "/greet")).status_code == 404
    assert (await admin.get(ROOT)).json() == {"functions": []}


@pytest.mark.parametrize("path", ["/x", "/x/versions", "/x/stats", "/x/limits", "/x/logs", "/x/secrets", "/x/kv/a/"])
async def test_what_does_not_exist_is_404_and_says_so(admin, path: str) -> None:
    answer = await admin.get(ROOT + path)
    assert answer.status_code == 404
    assert "There is no function 'x'" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        ({"json": {}}, 400, "multipart/form-data"),
        ({"files": {"manifest": (None, b"{}")}}, 422, "name"),
        ({"files": {"manifest": (None, msgspec.json.encode(HIT))}}, 400, "lacks the part `artefact`"),
        ({"files": {"artefact": (None, b"")}}, 400, "lacks the part `manifest`"),
        ({"files": {"manifest": (None, b"nope"), "artefact": (None, b"")}}, 400, "not valid JSON"),
        ({"files": {"manifest": (None, b"[]"), "artefact": (None, b"")}}, 400, "one JSON object"),
        (upload(manifest={"name": "../etc", "bind": []}), 422, "name"),
        (upload(canary="0"), 400, "above 0 and below 100"),
        (upload(canary="many"), 400, "above 0 and below 100"),
        (upload(signature="%%"), 400, "base64"),
        (upload(extra="x" * 70_000), 400, "no part 'extra'; it may have manifest, artefact,"),
        (upload(message="m" * 70_000), 413, "larger than 65536"),
    ],
)
async def test_an_upload_that_makes_no_sense_is_refused(
    admin, request_: dict[str, Any], status: int, said: str
) -> None:
    answer = await admin.post(ROOT, **request_)
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert (await admin.get(ROOT)).json() == {"functions": []}


async def test_an_artefact_that_is_too_large_is_not_read_to_its_end(start_pop, core) -> None:
    pop = await start_pop(core.url, functions=Functions(max_artefact_bytes=1000))
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        parts = {"manifest": (None, msgspec.json.encode(HIT)), "artefact": (None, b"\0asm" + bytes(10**6))}
        answer = await client.post(ROOT, files=parts)
    assert answer.status_code == 413
    assert "`artefact` is larger than 1000 bytes" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/greet/rollback", {"version": "1"}, "`version`"),
        ("/greet/rollback", {"version": True}, "`version`"),
        ("/greet/rollback", {"message": 1}, "`message`"),
        ("/greet/rollback", {"version": 9}, "9"),
        ("/greet/split", {}, "`weight`"),
        ("/greet/split", {"weight": 1.5}, "`weight`"),
        ("/greet/split", {"weight": 0.5}, "no canary"),
        ("/greet/promote", {}, "no canary"),
    ],
)
async def test_a_change_that_makes_no_sense_changes_nothing(admin, path: str, body: Any, said: str) -> None:
    await admin.post(ROOT, **upload("one"))
    before = (await admin.get(ROOT + "/greet")).json()["split"]
    answer = await admin.post(ROOT + path, json=body)
    assert answer.status_code in {400, 404}
    assert said in answer.json()["detail"]
    assert (await admin.get(ROOT + "/greet")).json()["split"] == before


async def test_a_developer_reaches_the_functions_of_one_tenant_only(start_pop, core) -> None:
    settings = Admin(listen="127.0.0.1:0", token="op", developer=(AdminDeveloper(tenant="acme", tokens=("dev",)),))
    pop = await start_pop(core.url, admin=settings)
    async with httpx.AsyncClient(base_url=pop.admin_url, timeout=60) as client:
        operator, developer = ({"authorization": f"Bearer {token}"} for token in ("op", "dev"))
        await client.post(ROOT, **upload("theirs"), headers=operator)
        await client.post(ROOT, **upload("mine"), headers=developer)
        mine = (await client.get(ROOT, headers=developer)).json()["functions"]
        assert [(each["tenant"], each["name"]) for each in mine] == [("acme", "greet")]
        everything = (await client.get(ROOT, headers=operator)).json()["functions"]
        assert [each["tenant"] for each in everything] == ["acme", "default"]
        assert (await client.get(f"{ROOT}?tenant=default", headers=developer)).status_code == 403
        assert (await client.get(f"{ROOT}?tenant=acme", headers=developer)).status_code == 200
        assert (await client.delete(f"{ROOT}/greet?tenant=default", headers=developer)).status_code == 403
        assert (await client.get(f"{ROOT}/greet?tenant=acme", headers=operator)).status_code == 200
        assert (await client.post("/admin/v1/purge", json={"all": True}, headers=developer)).status_code == 403
        shown = (await client.get(f"{ROOT}/greet", headers=developer)).json()
        assert shown["history"][0]["who"].startswith("developer ")


async def test_where_signatures_are_required_an_unsigned_upload_is_refused(start_pop, core) -> None:
    key = Ed25519PrivateKey.generate()
    public = base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    pop = await start_pop(core.url, functions=Functions(signatures="required", trusted=(public,)))
    async with httpx.AsyncClient(base_url=pop.admin_url, timeout=60) as client:
        assert (await client.post(ROOT, **upload())).status_code == 422
        manifest = manifests.convert(HIT)
        signature = sign(key, artefact_digest(saying("one")), manifest)
        signed = await client.post(ROOT, **upload(signature=base64.b64encode(signature).decode()))
        assert signed.status_code == 200
        altered = await client.post(ROOT, **upload("two", signature=base64.b64encode(signature).decode()))
        assert altered.status_code == 422


async def test_with_functions_switched_off_the_routes_say_so(start_pop, core) -> None:
    pop = await start_pop(core.url, functions=Functions(enabled=False))
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        answer = await client.get(ROOT)
    assert (answer.status_code, answer.json()["code"]) == (404, "functions_off")
