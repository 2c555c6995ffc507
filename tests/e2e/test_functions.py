"""Functions on a POP that runs as a process, from `fn new` to rollback, with the real commands and the openai SDK."""

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from wasmtime import wat2wasm

from tests.conftest import MODEL
from tests.e2e.serving import QUICK, Served, error_of, saying, serving, text_of

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

ASKED: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello to {{name}}, please."}]}
DESK = (Path(__file__).parent / "guests" / "desk.js").read_bytes()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pop") / "edgecache.toml"
    path.write_text(QUICK + '[functions]\ncanary_calls = 20\nfetch = true\nprivate = ["127.0.0.1/32"]\n')
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(config: Path) -> AsyncIterator[Served]:
    """One POP for all tests that leave it running; each has functions of other names."""
    async with serving(config) as started:
        yield started


def greeting(name: str, **more: Any) -> dict[str, Any]:
    """The manifest of a function that says on every hit which version it is; what fails there shows."""
    return {"name": name, "bind": [{"phase": "hit"}], "on_error": "fail"} | more


async def words(stream: Any) -> str:
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


# ---------------------------------------------------------------------------------------------- the story


async def test_from_new_to_rollback(served: Served, tmp_path: Path) -> None:
    await served.fn(tmp_path, "new", "hello", "-t", "js")
    here = tmp_path / "hello"
    assert "5 passed, 0 failed" in await served.fn(here, "test")
    first = await served.told(here, "deploy", "-m", "the first")
    assert (first["number"], first["kind"], first["split"]["stable"]) == (1, "script", 1)

    async with served.sdk(**{"x-user": "Ada"}) as ada, served.sdk(**{"x-user": "Bo"}) as bo:
        fresh = await ada.chat.completions.with_raw_response.create(**ASKED)
        assert fresh.headers["x-edgecache-status"] == "MISS"
        assert "Say hello to Ada, please." in fresh.parse().choices[0].message.content
        await served.hit(ASKED["messages"][0]["content"])
        stored = await bo.chat.completions.with_raw_response.create(**ASKED)
        assert stored.headers["x-edgecache-status"] == "HIT"
        assert stored.headers["x-edgecache-function"] == "hello@1"
        answer = stored.parse().choices[0].message.content
        assert "Say hello to Bo, please." in answer
        stream = await bo.chat.completions.with_raw_response.create(**ASKED, stream=True)
        assert stream.headers["x-edgecache-status"] == "HIT"
        assert await words(stream.parse()) == answer

        source = (here / "function.js").read_text()
        (here / "function.js").write_text(source.replace('"x-personalised": "yes"', '"x-personalised": "twice"'))
        assert "4 passed, 1 failed" in await failed(served, here, "test")
        second = await served.told(here, "deploy", "--canary", "10%")
        assert second["split"] == {"stable": 1, "canary": 2, "weight": 0.1}
        await served.told(here, "split", "100%")
        said = await bo.chat.completions.with_raw_response.create(**ASKED)
        assert (said.headers["x-personalised"], said.headers["x-edgecache-function"]) == ("twice", "hello@2")
        await served.told(here, "rollback", "-m", "two says it twice")
        said = await bo.chat.completions.with_raw_response.create(**ASKED)
        assert (said.headers["x-personalised"], said.headers["x-edgecache-function"]) == ("yes", "hello@1")

    assert [each["number"] for each in (await served.told(here, "versions"))["versions"]] == [2, 1]
    status = await served.told(here, "status")
    assert [each["what"] for each in status["history"]] == ["rollback", "split", "deploy", "deploy"]
    assert status["history"][0]["message"] == "two says it twice"
    stats = (await served.told(here, "stats"))["stats"]
    assert stats["1"]["outcomes"].keys() == {"ok"}
    limits = {each["name"]: each for each in (await served.told(here, "limits"))["limits"]}
    assert limits["cpu_ms"]["granted"] == 20
    assert {"name": "hello", "stable": 1} in [
        {key: each[key] for key in ("name", "stable")} for each in (await served.told(here, "list"))["functions"]
    ]
    await served.told(here, "rollback", "2")
    await served.told(here, "delete", "--yes")
    assert "no function" in (await served.fn(here, "status", status=1)).lower()
    plain = await served.ask(ASKED["messages"][0]["content"])
    assert "{{name}}" in text_of(plain[2])
    assert "x-edgecache-function" not in plain[1]


async def failed(served: Served, folder: Path, *arguments: str) -> str:
    """What a command says on standard output that ends with 1."""
    process = await served.begun(folder, *arguments)
    out, _ = await process.communicate()
    assert process.returncode == 1
    return out.decode()


async def test_what_it_keeps_and_says_is_reached_from_outside_but_its_secrets_are_not(
    served: Served, tmp_path: Path
) -> None:
    (tmp_path / "function.js").write_bytes(DESK)
    allow = 'kv = ["visits"]\nsecrets = ["pepper", "salt"]\n'
    (tmp_path / "function.toml").write_text(
        f'name = "desk"\n[[bind]]\nphase = "route"\n[limits]\ncpu_ms = 500\nmemory_mb = 16\n[allow]\n{allow}'
        '[build]\nartefact = "function.js"\n'
    )
    await served.told(tmp_path, "deploy")
    await served.fn(tmp_path, "secret", "put", "pepper", typed="black-and-hot\n")
    (tmp_path / "secrets.json").write_text('{"salt": "of the sea", "sugar": "brown"}')
    await served.fn(tmp_path, "secret", "bulk", "secrets.json")
    names = await served.fn(tmp_path, "secret", "list", "--json")
    assert sorted(each["name"] for each in json.loads(names)["secrets"]) == ["pepper", "salt", "sugar"]
    assert "black" not in names
    await served.fn(tmp_path, "secret", "delete", "sugar")
    await served.fn(tmp_path, "kv", "put", "visits", "ada", "41")

    tail = await served.begun(tmp_path, "tail", "--format", "json", "--event", "log", "--lines", "0")
    assert tail.stdout is not None
    try:
        records = await _spoken(served, tail.stdout)
    finally:
        tail.send_signal(signal.SIGINT)
        await tail.communicate()
    assert records["text"] == "ada uses [secret pepper] and says it"

    assert await served.fn(tmp_path, "kv", "get", "visits", "ada") == "42"
    listed = await served.told(tmp_path, "kv", "list", "visits")
    assert listed["keys"] == ["ada"]
    await served.fn(tmp_path, "kv", "delete", "visits", "ada")
    assert "no value" in await served.fn(tmp_path, "kv", "get", "visits", "ada", status=1)
    again = await served.fn(tmp_path, "tail", "--no-follow", "--format", "json", "--event", "audit")
    assert "var.get pepper" in again
    assert "black-and-hot" not in again


async def _spoken(served: Served, tail: asyncio.StreamReader) -> dict[str, Any]:
    """Let the function speak until the tail has heard it."""
    heard = asyncio.ensure_future(tail.readline())  # noqa: TID251
    async with asyncio.timeout(20):
        while not heard.done():
            await served.fn(Path(), "kv", "put", "visits", "ada", "41", "--name", "desk")
            status, _, body = await served.get("/fn/desk/visit?who=ada")
            assert (status, body) == (200, b"42 black-and-hot"), body
            await asyncio.wait([heard], timeout=0.05)
    return dict(json.loads(heard.result()))


# ---------------------------------------------------------------------------------------------- no request is dropped


async def test_deploys_canaries_and_rollbacks_under_load_drop_nothing(served: Served) -> None:
    question = "What is hammered on?"
    heard: list[str] = []
    over = asyncio.Event()

    async def hammer() -> None:
        while not over.is_set():
            status, headers, body = await served.ask(question)
            assert (status, headers["x-edgecache-status"]) == (200, "HIT"), body
            heard.append(headers["x-said"])

    await served.hit(question)
    async with served.having(greeting("swap"), saying("one")), asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(hammer())
        for number in range(3):
            await served.deploy(greeting("swap"), saying(f"new {number}"), canary="50%")
            await served.admin("POST", "/swap/split", json={"weight": 1})
            await served.admin("POST", "/swap/promote")
            await served.admin("POST", "/swap/rollback", json={"version": 1})
            await served.deploy(greeting("swap"), saying(f"other {number}"))
        await served.admin("POST", "/swap/rollback", json={"version": 1})
        over.set()
        stats = (await served.admin("GET", "/swap/stats")).json()["stats"]
        assert all(each["outcomes"].keys() <= {"ok"} for each in stats.values())
        assert (await served.ask(question))[1]["x-said"] == "one"
    assert {"one", "new 0", "other 0", "new 2", "other 2"} <= set(heard)


async def test_a_request_key_stays_with_its_version(served: Served) -> None:
    questions = [f"sticky {number}" for number in range(40)]
    for question in questions:
        await served.hit(question)
    async with served.having(greeting("sticky"), saying("one")):
        await served.deploy(greeting("sticky"), saying("two"), canary="50%")
        said = [[(await served.ask(question))[1]["x-said"] for question in questions] for _ in range(2)]
    assert said[0] == said[1]
    assert 5 < said[0].count("two") < 35


async def test_a_canary_that_fails_is_taken_back_by_itself(served: Served) -> None:
    questions = [f"Who goes there, number {number}?" for number in range(40)]
    for question in questions:
        await served.hit(question)
    frail = greeting("frail", on_error="pass_through")
    async with served.having(frail, saying("one")), asyncio.timeout(30):
        await served.deploy(frail, saying("two", 999), canary="50%")
        status: dict[str, Any] = {"split": {"canary": 2}}
        while status["split"]["canary"] is not None:
            answers = [await served.ask(question) for question in questions]
            assert {answer[0] for answer in answers} == {200}
            status = (await served.admin("GET", "/frail")).json()
    assert status["split"]["stable"] == 1
    assert status["history"][0]["what"] == "auto_rollback"
    assert "flood of failures" in status["history"][0]["message"]


# ---------------------------------------------------------------------------------------------- restarts


async def test_a_restart_keeps_everything(config: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    desk = {
        "name": "desk",
        "bind": [{"phase": "route"}],
        "allow": {"kv": ["visits"], "secrets": ["pepper"]},
        "limits": {"cpu_ms": 500, "memory_mb": 16},
    }
    async with serving(config, data=data) as served:
        await served.deploy(desk, DESK)
        await served.deploy(greeting("swap"), saying("one"))
        await served.deploy(greeting("swap"), saying("two"), canary="50%", message="try it")
        await served.admin("POST", "/swap/split", json={"weight": 1})
        await served.admin("PUT", "/desk/secrets/pepper", json={"value": "black"})
        await served.admin("PUT", "/desk/kv/visits/ada", content=b"6")
        before = await _seen(served)
    async with serving(config, data=data) as served:
        assert await _seen(served) == before
        assert (await served.get("/fn/desk/visit?who=ada"))[2] == b"7 black"
        assert (await served.hit("Is it there?"))[1]["x-said"] == "two"
        back = (await served.admin("POST", "/swap/rollback", json={})).json()
        assert back["split"]["stable"] == 1
        assert (await served.ask("Is it there?"))[1]["x-said"] == "one"


async def _seen(served: Served) -> list[Any]:
    paths = ("", "/desk", "/desk/versions", "/desk/secrets", "/desk/kv/visits/", "/swap", "/swap/versions")
    found = [(await served.admin("GET", path)).json() for path in paths]
    for each in found:
        each.pop("stats", None)
    for each in found[0]["functions"]:
        each.pop("calls", None)
    return found


async def test_killed_in_the_middle_of_deploys_it_starts_again_with_what_it_acknowledged(
    config: Path, tmp_path: Path
) -> None:
    data, acknowledged = tmp_path / "data", 0
    for seed in range(3):
        with suppress(ProcessLookupError):
            async with serving(config, data=data) as served:
                if acknowledged:
                    await _runs_at_least(served, acknowledged)
                acknowledged = await _deploys_until_killed(served, acknowledged, random.Random(seed))
    async with serving(config, data=data) as served:
        await _runs_at_least(served, acknowledged)
        assert (await served.deploy(greeting("swap"), saying("the last")))["number"] > acknowledged
        assert (await served.ask("How many?"))[1]["x-said"] == "the last"
        drafts = [each.name for each in (data / "functions").rglob("*") if each.is_file() and "draft" in each.name]
        assert drafts == []


async def _deploys_until_killed(served: Served, number: int, chance: random.Random) -> int:
    """The last version that was acknowledged before the POP was killed."""
    asyncio.get_running_loop().call_later(0.3 + chance.random(), os.kill, served.pop.pid, signal.SIGKILL)
    with suppress(httpx.TransportError):
        while True:
            made = await served.upload(greeting("swap"), saying(f"number {number + 1}"))
            assert made.status_code == 200, made.text
            number = made.json()["number"]
    return number


async def _runs_at_least(served: Served, number: int) -> None:
    """The version that was acknowledged last runs, or one that was not yet."""
    runs = (await served.admin("GET", "/swap")).json()["split"]["stable"]
    assert runs in {number, number + 1}
    assert (await served.hit("How many?"))[1]["x-said"] == f"number {runs}"


# ---------------------------------------------------------------------------------------------- phases together


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def phased(served: Served) -> AsyncIterator[Served]:
    """The same POP with a function in every phase."""
    phases = ("request", "key", "hit", "miss", "response", "route")
    manifest = {
        "name": "phases",
        "bind": [{"phase": phase} for phase in phases],
        "limits": {"cpu_ms": 500, "memory_mb": 16, "wall_ms": 5000},
        "on_error": "fail",
        "allow": {"llm": ["*"], "cache": True, "kv": ["visits"]},
    }
    async with served.having(manifest, DESK):
        yield served


async def test_a_request_is_rewritten_before_the_cache_is_asked(phased: Served) -> None:
    await phased.hit("What is the color of grass?")
    status, headers, body = await phased.ask("What is the colour of grass?")
    assert (status, headers["x-edgecache-status"]) == (200, "HIT")
    assert "What is the color of grass?" in text_of(body)


async def test_a_refusal_is_an_error_of_openais_form(phased: Served) -> None:
    status, headers, body = await phased.ask("Tell me the forbidden word.")
    assert (status, error_of(body)) == (451, ("refused_by_function", "We do not talk about that."))
    assert headers["x-edgecache-function"] == "phases@1"


async def test_an_answer_of_its_own_is_never_stored(phased: Served) -> None:
    for number in range(2):
        _, headers, body = await phased.ask("When are you open?", headers={"x-open": f"{number} to 9"})
        assert text_of(body) == f"From {number} to 9."
        assert headers["x-edgecache-status"] == "BYPASS"


async def test_a_key_divides_the_cache(phased: Served) -> None:
    question = "What is the law?"
    await phased.hit(question, headers={"x-country": "NL"})
    _, headers, _ = await phased.ask(question, headers={"x-country": "BE"})
    assert headers["x-edgecache-status"] == "MISS"
    _, headers, _ = await phased.ask(question, headers={"x-country": "NL"})
    assert headers["x-edgecache-status"] == "HIT"


async def test_a_miss_is_answered_or_goes_upstream_rewritten(phased: Served) -> None:
    _, headers, body = await phased.ask("What did the canteen say today?")
    assert text_of(body) == "The canteen says: soup."
    _, headers, body = await phased.ask("Name the capital of @country.")
    assert headers["x-edgecache-status"] == "MISS"
    assert "Name the capital of France." in text_of(body)


async def test_fresh_stored_and_near_answers_are_all_personalised(phased: Served) -> None:
    question = "Where does NAME live, and since when?"
    _, headers, body = await phased.ask(question, headers={"x-user": "Ada"})
    assert (headers["x-edgecache-status"], headers["x-desk"]) == ("MISS", "response")
    assert "Where does Ada live" in text_of(body)
    await phased.hit(question)
    for asked, status in ((question, "HIT"), ("Where does  NAME live,  and since when?", "SEMANTIC_HIT")):
        _, headers, body = await phased.ask(asked, headers={"x-user": "Bo"})
        assert (headers["x-edgecache-status"], headers["x-desk"]) == (status, f"hit {status}")
        assert "Where does Bo live" in text_of(body)


async def test_a_declined_hit_is_fetched_anew(phased: Served) -> None:
    await phased.hit("What time is it?")
    _, headers, _ = await phased.ask("What time is it?", headers={"x-fresh": "yes"})
    assert headers["x-edgecache-status"] == "MISS"


async def test_streams_are_changed_event_by_event_where_the_manifest_says_so(served: Served) -> None:
    bind = [{"phase": phase, "stream": "chunk"} for phase in ("hit", "response")]
    limits = {"cpu_ms": 500, "memory_mb": 16}
    chunks = {"name": "chunks", "bind": bind, "limits": limits, "on_error": "fail"}
    question = "How is NAME, today of all days?"
    asked = ASKED | {"messages": [{"role": "user", "content": question}]}
    heard = []
    async with served.having(chunks, DESK), served.sdk(**{"x-user": "Bo"}) as bo:
        for status in ("MISS", "HIT"):
            stream = await bo.chat.completions.with_raw_response.create(**asked, stream=True)
            assert stream.headers["x-edgecache-status"] == status
            heard.append(await words(stream.parse()))
            await served.hit(question)
    assert heard[0] == heard[1]
    assert "How is Bo, today of all days?" in heard[0]


async def test_a_route_streams_while_the_function_still_runs(served: Served) -> None:
    released = asyncio.Event()

    async def wait(_: web.Request) -> web.Response:
        await released.wait()
        return web.Response(text="two")

    app = web.Application()
    app.router.add_get("/", wait)
    server = TestServer(app)
    await server.start_server()
    origin = f"http://127.0.0.1:{server.port}"
    parts = {"name": "parts", "bind": [{"phase": "route"}], "allow": {"fetch": [origin]}, "limits": {"wall_ms": 10_000}}
    async with served.having(parts, in_parts(origin)), served.session.get(served.pop.url + "/fn/parts/") as response:
        assert response.headers["transfer-encoding"] == "chunked"
        assert (await response.content.readexactly(3)) == b"one"
        released.set()
        rest = await response.content.read()
        assert rest.strip() == b"=3:200,3:two," + rest.strip().partition(b"two,")[2]
    await server.close()


def in_parts(origin: str) -> bytes:
    """A command that writes a part, fetches `origin` and writes what comes back."""
    head = "Status: 200 OK\n\none" + " " * 70_000
    call = f"3:GET,{len(origin) + 1}:{origin}/,0:,"
    quoted = ["".join(f"\\{byte:02x}" for byte in text.encode()) for text in (head, call)]
    return bytes(
        wat2wasm(f"""(module
      (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
      (import "edgecache" "call" (func $call (param i32 i32 i32 i32) (result i32)))
      (import "edgecache" "answer" (func $answer (param i32)))
      (memory (export "memory") 3)
      (data (i32.const 64) "fetch") (data (i32.const 128) "{quoted[1]}") (data (i32.const 1024) "{quoted[0]}")
      (func $write (param i32 i32)
        (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
      (func (export "_start") (local $size i32)
        (call $write (i32.const 1024) (i32.const {len(head)}))
        (local.set $size (call $call (i32.const 64) (i32.const 5) (i32.const 128) (i32.const {len(call)})))
        (call $answer (i32.const 1024))
        (call $write (i32.const 1024) (local.get $size))))""")
    )


# ---------------------------------------------------------------------------------------------- llm, and the cache


async def test_inference_comes_from_the_cache_and_vectors_from_this_pops_embedder(phased: Served) -> None:
    path = "/fn/phases/infer?q=Why+is+the+sky+blue"
    first = json.loads((await phased.get(path))[2])
    assert "Why is the sky blue" in first["text"]
    assert first["promptTokens"] > 0
    await phased.hit("Why is the sky blue")
    async with phased.session.get(phased.pop.admin + "/metrics") as response:
        before = upstream_requests(await response.text())
    assert json.loads((await phased.get(path))[2]) == first
    async with phased.session.get(phased.pop.admin + "/metrics") as response:
        assert upstream_requests(await response.text()) == before

    vectors = json.loads((await phased.get("/fn/phases/embed?q=sky"))[2])
    async with phased.sdk() as sdk:
        own = await sdk.embeddings.create(model="edgecache/hashing", input="sky", encoding_format="float")
    assert vectors == pytest.approx(own.data[0].embedding, abs=1e-6)


async def test_the_cache_is_looked_up_and_never_filled(phased: Served) -> None:
    path = "/fn/phases/lookup?q=What+is+known+of+this"
    assert json.loads((await phased.get(path))[2]) is None
    await phased.hit("What is known of this")
    found = json.loads((await phased.get(path))[2])
    assert "What is known of this" in found["answer"]["choices"][0]["message"]["content"]
    assert found["similarity"] == 1


def upstream_requests(metrics: str) -> float:
    lines = [line for line in metrics.splitlines() if line.startswith("edgecache_upstream_requests_total")]
    assert lines
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
