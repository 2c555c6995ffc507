"""What hostile functions do to a POP that serves somebody else at the same time: nothing but fail, and say why."""

import asyncio
import io
import json
import os
import signal
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio
from wasmtime import wat2wasm

from edgecache.clock import SystemClock
from tests.e2e.serving import QUICK, Answer, Neighbour, Served, error_of, saying, serving, text_of
from tests.wasm import bombs
from tests.wasm.conftest import core

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

THEIRS = "key-of-the-neighbour-0123456789"
MINE = "key-of-the-attacker-0123456789"
NEIGHBOUR, ATTACKER = "developer-of-the-neighbour", "developer-of-the-attacker"
CONFIG = f"""
[auth]
mode = "keys"
[[auth.tenant]]
id = "neighbour"
keys = ["{THEIRS}"]
[[auth.tenant]]
id = "attacker"
keys = ["{MINE}"]
[admin]
token = "operator"
[[admin.developer]]
tenant = "neighbour"
tokens = ["{NEIGHBOUR}"]
[[admin.developer]]
tenant = "attacker"
tokens = ["{ATTACKER}"]
[functions]
fetch = true
compile_cpu = 6
kv_bytes = 1000000
kv_keys = 50
"""
PATIENCE = 1.0
"""s that a neighbour may have to wait for an answer from the cache, whatever happens beside it. Mostly it is 1 ms."""
QUESTION = "What does the neighbour ask all day?"
TOOLS = (Path(__file__).parent / "guests" / "tools.js").read_bytes()
CLOCK = SystemClock()
CONFORMANCE = (Path(__file__).parents[1] / "adapter" / "guests" / "conformance.wasm").read_bytes()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A POP with two tenants; the neighbour has a function on every hit, and one in JavaScript on a route."""
    config = tmp_path_factory.mktemp("pop") / "edgecache.toml"
    config.write_text(QUICK + CONFIG)
    async with serving(config, token=ATTACKER, key=MINE) as started:
        hit = {"name": "greet", "bind": [{"phase": "hit"}], "on_error": "fail"}
        await started.deploy(hit, saying("hello"), token=NEIGHBOUR)
        await started.deploy(route("kept"), TOOLS)  # what is compiled once is not compiled again
        await started.deploy(route("kept-too"), CONFORMANCE)
        await started.hit(QUESTION, key=THEIRS)
        yield started


@asynccontextmanager
async def undisturbed(served: Served) -> AsyncIterator[None]:
    """The neighbour gets every answer, in time, while the block runs."""
    neighbour = Neighbour(served, QUESTION, key=THEIRS)
    async with neighbour.busy():
        yield
    print(  # noqa: T201 - what `pytest -rP` shows
        f"{len(neighbour.took)} answers, p50 {neighbour.p(0.5) * 1e3:.1f} ms, "
        f"p99 {neighbour.p(0.99) * 1e3:.1f} ms, longest {max(neighbour.took) * 1e3:.1f} ms"
    )
    assert neighbour.wrong == []
    assert max(neighbour.took) < PATIENCE


def route(name: str = "evil", *, cpu_ms: int = 50, memory_mb: int = 16, **more: Any) -> dict[str, Any]:
    limits = {"cpu_ms": cpu_ms, "memory_mb": memory_mb} | more.pop("limits", {})
    return {"name": name, "bind": [{"phase": "route"}], "limits": limits} | more


async def called(served: Served, path: str = "/fn/evil/", **more: Any) -> Answer:
    return await served.get(path, **more)


# ---------------------------------------------------------------------------------------------- at run time

ENDLESS = "(loop $on (br $on))"
NOTHING = "(i64.const 0)"
LOG = """(import "edgecache" "call" (func $call (param i32 i32 i32 i32) (result i64)))
  (data (i32.const 64) "log") (data (i32.const 80) "4:info,5:hello,")"""
SAY = "(drop (call $call (i32.const 64) (i32.const 3) (i32.const 80) (i32.const 15)))"


FLOOD = bytes(
    wat2wasm("""(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 2)
      (data (i32.const 0) "\\10\\00\\00\\00\\10\\00\\00\\00") (data (i32.const 16) "Status: 200 OK\\n\\n")
      (data (i32.const 8) "\\20\\00\\00\\00\\00\\00\\01\\00")
      (func (export "_start")
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 65540)))
        (loop $on (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 65540))) (br $on))))""")
)
"""A command that answers without end."""


class Attack(NamedTuple):
    """What is uploaded, and what its owner is told when it is called; with `cpu_ms` in the sandbox."""

    artefact: bytes
    code: str
    says: str
    path: str = "/fn/evil/"
    cpu_ms: int = 50
    memory_mb: int = 16


def fast(handle: str = NOTHING, **more: str) -> bytes:
    return bytes(wat2wasm(core(handle, **more)))


def component(path: str, code: str, says: str) -> Attack:
    return Attack(CONFORMANCE, code, says, f"/fn/evil{path}")


def answering(length: int) -> str:
    return f"(i64.const {16 << 32 | length})"


CALLS = {
    "an endless loop at the start": Attack(fast(start=ENDLESS), "function_cpu", "50 ms"),
    "an endless loop in handle": Attack(fast(f"{ENDLESS} {NOTHING}"), "function_cpu", "50 ms"),
    "an endless loop in alloc": Attack(fast(alloc=ENDLESS), "function_cpu", "50 ms"),
    "an endless loop in JavaScript": Attack(TOOLS, "function_cpu", "50 ms", "/fn/evil/loop"),
    "a regular expression that never ends": Attack(TOOLS, "function_cpu", "50 ms", "/fn/evil/regexp"),
    "promises without end": Attack(TOOLS, "function_cpu", "50 ms", "/fn/evil/promises"),
    "timers without end": Attack(TOOLS, "function_cpu", "50 ms", "/fn/evil/timers"),
    "host calls without end": Attack(
        fast(f"(loop $on {SAY} (br $on)) {NOTHING}", before=LOG), "function_budget", "101 host calls, of at most 100"
    ),
    "a host call in a host call": Attack(
        fast(f"{SAY} {NOTHING}", before=LOG, alloc=SAY), "function_stack", "more than the 8 that may be"
    ),
    "a flood of memory": Attack(
        fast("(loop $on (br_if $on (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable"),
        "function_memory",
        "16.0 of its 16 MiB",
    ),
    "a flood of memory in JavaScript": Attack(TOOLS, "function_memory", "16,777,216", "/fn/evil/memory", 1000),
    "a flood of tables": Attack(
        fast(
            "(loop $on (br_if $on (i32.ne (table.grow (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable",
            before="(table 1 funcref)",
        ),
        "function_trap",
        "unreachable",
    ),
    "endless recursion": Attack(
        fast("(call $deeper) (i64.const 0)", before="(func $deeper (call $deeper))"), "function_stack", "their 1 MiB"
    ),
    "endless recursion in JavaScript": Attack(TOOLS, "function_stack", "call stack size", "/fn/evil/recursion", 1000),
    "reading out of bounds": Attack(fast("(i64.load (i32.const -8))"), "function_trap", "out of bounds"),
    "an answer out of bounds": Attack(
        fast("(i64.const 0x7fff000000000010)"), "function_answer", "not in its memory of 65536 bytes"
    ),
    "an answer of 2 GB": Attack(fast(answering(2**31)), "function_size", "more than the 1048576"),
    "an answer of 4 GB": Attack(fast(answering(2**32 - 1)), "function_size", "more than the 1048576"),
    "10 million headers": Attack(
        fast(answering(40_000_000), memory="640"), "function_size", "more than the 1048576", memory_mb=64
    ),
    "10 million headers in JavaScript": Attack(TOOLS, "function_cpu", "50 ms", "/fn/evil/headers?count=10000000"),
    "a head that is too large": Attack(TOOLS, "function_size", "", "/fn/evil/headers?count=5000", 1000),
    "a list of 10 million": Attack(TOOLS, "function_memory", "16,777,216", "/fn/evil/list", 1000),
    "no answer": component("/never", "function_answer", "never answered"),
    "a promise that is never kept": Attack(TOOLS, "function_answer", "never", "/fn/evil/never"),
    "an error for an answer": component("/error", "function_answer", "error"),
    "a trap in a component": component("/trap", "function_trap", "unreachable"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_fails_and_its_owner_is_told_which_limit(served: Served, name: str) -> None:
    attack = CALLS[name]
    async with (
        undisturbed(served),
        served.having(route(cpu_ms=attack.cpu_ms, memory_mb=attack.memory_mb), attack.artefact),
    ):
        for _ in range(3):
            status, _, body = await called(served, attack.path)
            code, message = error_of(body)
            assert (status, code) == (502, attack.code), message
            assert message.startswith("Function evil@1")
        records = await _records(served, "/evil/logs?event=call", 3)
        assert [record["outcome"] for record in records] == [code.removeprefix("function_")] * 3
        assert all(attack.says in record["text"] for record in records), records


async def _records(served: Served, path: str, count: int) -> list[dict[str, Any]]:
    """At least so many records: calls are booked a moment later."""
    async with asyncio.timeout(10):
        while True:
            found = (await served.admin("GET", path)).json()["records"]
            if len(found) >= count:
                return list(found)


@pytest.mark.parametrize(("path", "outcome"), [("/unfinished", "answer"), ("/twice", "trap")])
async def test_a_fault_after_the_head_breaks_the_response_off(served: Served, path: str, outcome: str) -> None:
    async with undisturbed(served), served.having(route(), CONFORMANCE):
        with pytest.raises(aiohttp.ClientPayloadError):
            await called(served, "/fn/evil" + path)
        (record,) = await _records(served, "/evil/logs?event=call", 1)
        assert record["outcome"] == outcome, record


async def test_an_answer_without_end_is_cut_off_at_its_limit(served: Served) -> None:
    taken = 0
    async with undisturbed(served), served.having(route(cpu_ms=1000, limits={"wall_ms": 10_000}), FLOOD):
        with pytest.raises(aiohttp.ClientPayloadError):
            async with served.session.get(
                served.pop.url + "/fn/evil/", headers={"authorization": f"Bearer {MINE}"}
            ) as response:
                async for part in response.content.iter_any():
                    taken += len(part)
        (record,) = await _records(served, "/evil/logs?event=call", 1)
        assert record["outcome"] == "size"
        assert "more than the 1048576 that it may answer" in record.get("text", "")
        assert taken <= 1048576


# ---------------------------------------------------------------------------------------------- on the hit phase


async def test_on_a_hit_a_fault_leaves_the_answer_as_the_manifest_says(served: Served) -> None:
    question = "What does the attacker ask?"
    stored = text_of((await served.hit(question))[2])
    loop = fast(f"{ENDLESS} {NOTHING}")
    async with undisturbed(served):
        for on_error, status, cache in (("pass_through", 200, "HIT"), ("miss", 200, "MISS"), ("fail", 502, "")):
            evil = route() | {"bind": [{"phase": "hit"}], "on_error": on_error}
            async with served.having(evil, loop):
                code, headers, body = await served.ask(question)
                assert (code, headers.get("x-edgecache-status", "")) == (status, cache)
                if status == 502:
                    assert error_of(body)[0] == "function_cpu"
                else:
                    assert text_of(body) == stored


# ---------------------------------------------------------------------------------------------- many at once


async def test_functions_that_take_all_their_time_leave_the_neighbours_own_to_theirs(served: Served) -> None:
    """Twenty long calls wait for four threads; the neighbour's function needs one of them too."""
    mine = route(cpu_ms=300, limits={"wall_ms": 5000})
    theirs = {"name": "page", "bind": [{"phase": "route"}], "limits": {"memory_mb": 16}, "on_error": "fail"}
    page = b"export default { fetch: () => new Response('page') };"
    took: list[float] = []
    async with served.having(theirs, page, token=NEIGHBOUR), served.having(mine, fast(f"{ENDLESS} {NOTHING}")):
        async with undisturbed(served), asyncio.TaskGroup() as group:
            loops = [group.create_task(called(served)) for _ in range(20)]
            while not all(loop.done() for loop in loops):
                begun = CLOCK.monotonic()
                assert (await called(served, "/fn/page/", key=THEIRS))[::2] == (200, b"page")
                took.append(CLOCK.monotonic() - begun)
        assert {error_of(loop.result()[2])[0] for loop in loops} <= {"function_cpu", "function_pool"}
    assert max(took) < PATIENCE


# ---------------------------------------------------------------------------------------------- floods that are kept


async def test_a_flood_of_log_lines_is_cut_and_is_seen_by_nobody_else(served: Served) -> None:
    limits = {"host_calls": 1000, "wall_ms": 10_000}
    async with undisturbed(served), served.having(route(cpu_ms=1000, limits=limits), TOOLS):
        for _ in range(3):
            assert (await called(served, "/fn/evil/log?count=900"))[2] == b"logged"
        records = await _records(served, "/evil/logs?event=log&lines=10000", 3)
        assert sum(len(record.get("text", "")) for record in records) < 3 * 17 * 1024
        assert sum("beyond 16384 bytes a call are dropped" in record.get("text", "") for record in records) == 3
        theirs = (await served.admin("GET", "/greet/logs", token=NEIGHBOUR)).json()["records"]
        assert not any("flood" in record.get("text", "") for record in theirs)
        assert (await served.admin("GET", "/evil/logs", token=NEIGHBOUR)).status_code == 404
        assert (await served.admin("GET", "/evil/logs?tenant=attacker", token=NEIGHBOUR)).status_code == 403


async def test_a_flood_of_keys_ends_at_the_quota_and_no_store_but_ones_own_is_reached(served: Served) -> None:
    limits = {"host_calls": 1000, "wall_ms": 5000}
    async with undisturbed(served), served.having(route(cpu_ms=1000, limits=limits, allow={"kv": ["mine"]}), TOOLS):
        _, _, body = await called(served, "/fn/evil/kv?count=60&size=10&prefix=k")
        assert body.startswith(b"quota: ")
        assert b"50" in body
        usage = (await served.admin("GET", "/evil/kv/mine/?limit=1")).json()["usage"]
        assert usage["keys"] == 50
        for number in range(50):
            await served.admin("DELETE", f"/evil/kv/mine/k{number}")
        _, _, body = await called(served, "/fn/evil/kv?count=40&size=50000&prefix=large")
        assert body.startswith(b"quota: ")
        assert b"1000000" in body.replace(b",", b"")
        assert (await called(served, "/fn/evil/foreign?store=other&key=k"))[2].startswith(b"denied: ")
        theirs = route("shop", allow={"kv": ["mine"]})
        async with served.having(theirs, TOOLS, token=NEIGHBOUR):
            await served.admin("PUT", "/shop/kv/mine/price", content=b"7", token=NEIGHBOUR)
            assert (await called(served, "/fn/evil/foreign?store=mine&key=price"))[2] == b"read null"
            for name in ("../shop/mine", "neighbour/shop/mine", "mine\0neighbour"):
                _, _, body = await called(served, "/fn/evil/foreign", params={"store": name, "key": "price"})
                assert body.startswith(b"denied: "), body
            assert (await called(served, "/fn/shop/foreign?store=mine&key=price", key=THEIRS))[2] == b"read 7"


async def test_nothing_is_left_from_one_call_to_the_next(served: Served) -> None:
    scratch = fast(
        "(i32.store8 (i32.const 21) (i32.add (i32.const 49) (global.get $n)))"
        "(global.set $n (i32.add (global.get $n) (i32.const 1)))"
        "(i32.store8 (i32.const 22) (i32.add (i32.const 48) (i32.load8_u (i32.const 60000))))"
        "(memory.fill (i32.const 50000) (i32.const 9) (i32.const 15000))"
        f"{answering(7)}",
        before='(global $n (mut i32) (i32.const 0)) (data (i32.const 16) "200\\n\\n??")',
    )
    async with served.having(route(cpu_ms=200), TOOLS), served.having(route("scratch"), scratch):
        for _ in range(20):
            assert (await called(served, "/fn/evil/globals"))[2] == b"1 1"
            assert (await called(served, "/fn/scratch/"))[2] == b"10"


async def test_a_secret_that_a_function_throws_about_is_not_told(served: Served) -> None:
    async with served.having(route(cpu_ms=200, allow={"secrets": ["pepper"]}), TOOLS):
        await served.admin("PUT", "/evil/secrets/pepper", json={"value": "black-and-hot"})
        _, _, body = await called(served, "/fn/evil/secret")
        assert b"black" not in body
        told = await _records(served, "/evil/logs?event=call", 1)
        assert "the secret is [secret pepper]" in told[0]["text"]
        assert "black" not in (await served.admin("GET", "/evil/logs")).text
        assert "black-and-hot" not in (await served.admin("GET", "/evil/secrets")).text


async def test_answers_of_another_tenant_are_never_found(served: Served) -> None:
    asking = b"""export default { fetch: () =>
      Response.json(edgecache.cache.lookup("edge-test", "What does the neighbour ask all day?")) };"""
    spy = route("spy", cpu_ms=200, allow={"cache": True}, limits={"wall_ms": 5000})
    async with served.having(spy, asking), served.having(spy, asking, token=NEIGHBOUR):
        assert (await called(served, "/fn/spy/"))[2] == b"null"
        found = json.loads((await called(served, "/fn/spy/", key=THEIRS))[2])
        assert "What does the neighbour ask all day?" in found["answer"]["choices"][0]["message"]["content"]


# ---------------------------------------------------------------------------------------------- reaching out


async def test_every_way_to_an_inner_address_is_barred_even_if_it_is_granted(served: Served) -> None:
    port = served.pop.admin.rpartition(":")[2]
    inner = (
        "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]",
        "[::127.0.0.1]", "0.0.0.0", "[::]", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "169.254.169.254",
        "[fe80::1]", "[fd00:ec2::254]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "metadata.google.internal",
    )  # fmt: skip
    granted = []
    for host in inner:
        manifest = route(allow={"fetch": [f"http://{host}:{port}"]})
        answer = await served.upload(manifest, TOOLS)
        if answer.status_code == 422:  # no host at all, as the manifest has it
            assert answer.json()["code"] == "manifest"
            assert "allow.fetch" in answer.json()["detail"]
        else:
            granted.append(host)
    assert {"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"} <= set(granted)
    manifest = route(
        cpu_ms=500,
        limits={"wall_ms": 5000},
        allow={"fetch": [f"http://{host}:{port}" for host in granted]},
    )
    async with undisturbed(served), served.having(manifest, TOOLS):
        for host in inner:
            for url in (f"http://{host}:{port}/admin/v1/functions", f"http://user:pass@{host}:{port}/"):
                _, _, body = await called(served, "/fn/evil/reach", params={"url": url})
                assert body.startswith((b"denied: ", b"invalid: ", b"unavailable: ")), (url, body)
        for url in (
            "file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/", "data:text/plain,hello", "//127.0.0.1/",
            "http://example.com@127.0.0.1/", "http://127.0.0.1#@example.com/", "http://example.com/",
        ):  # fmt: skip
            status, _, body = await called(served, "/fn/evil/reach", params={"url": url})
            assert not body.startswith(b"200"), (url, body)
            assert status in {200, 502}
        audit = (await served.admin("GET", "/evil/logs?event=audit&lines=1000")).json()["records"]
        assert any("denied" in record.get("text", "") and "127.0.0.1" in record.get("text", "") for record in audit)


# ---------------------------------------------------------------------------------------------- at upload


def zipped() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("../../function.wasm", CONFORMANCE)
    return made.getvalue()


WORLD = b"""(component (core module $m (memory (export "memory") 1)
  (func (export "list") (result i32) i32.const 0))
  (core instance $i (instantiate $m))
  (func (export "list") (result (list u64)) (canon lift (core func $i "list") (memory (core memory $i "memory")))))"""
UPLOADS = {
    "nothing": (b"", "empty", "empty"),
    "no WebAssembly": (b"\x89PNG\r\n\x1a\n" + bytes(100), "unknown_format", "a picture"),
    "a zip": (zipped(), "unknown_format", "a zip archive"),
    "a program": (b"\x7fELF" + bytes(100), "unknown_format", "a Linux program"),
    "cut off": (CONFORMANCE[:-1000], "invalid_wasm", "bytes"),
    "cut off early": (CONFORMANCE[:6], "invalid_wasm", "in the middle of its first 8 bytes"),
    "another world": (bytes(wat2wasm(WORLD.decode())), "wrong_world", "incoming-handler"),
    "unknown imports": (bombs.module(bombs.tiny(), imports=(("env", "exec"),)), "unknown_import", "`env.exec`"),
    "too much memory": (bombs.module(bombs.tiny(), pages=4096), "too_much_memory", "268,435,456 bytes"),
    "a bomb of locals": (bombs.module(bombs.branchy(5000, 20_000)), "too_complex", "times as many"),
    "a bomb of functions": (bombs.module(*[bombs.tiny()] * 200_000), "too_complex", "200,001 functions"),
    "a bomb that takes time": (
        bombs.module(*[bombs.straight(20_000)] * 100),
        "compile_too_expensive",
        "more than its 6 s of CPU time (functions.compile_cpu)",
    ),
    "a script that never ends": (b"for (;;);", "script", "more than about 100,000,000 loops and calls"),
    "a script that eats memory": (b"const a = []; for (;;) a.push(new Array(1e6).fill(1));", "script", "memory"),
}


@pytest.mark.parametrize("name", UPLOADS)
async def test_an_upload_is_refused_with_the_rule_that_it_breaks(served: Served, name: str) -> None:
    artefact, code, says = UPLOADS[name]
    async with undisturbed(served):
        answer = await served.upload(route(), artefact)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, code), problem
    assert says in problem["detail"]
    assert (await served.admin("GET", "/evil")).status_code == 404


@pytest.mark.parametrize("name", ["../evil", "..", "a/b", "A", "x" * 64, "evil\n", "", "ev il", "%2e%2e"])
async def test_a_name_that_is_none_is_refused(served: Served, name: str) -> None:
    answer = await served.upload(route(name), saying("x"))
    assert (answer.status_code, answer.json()["code"]) == (422, "manifest")
    assert "name" in answer.json()["detail"]


async def test_many_compile_bombs_at_once_let_others_be_served(served: Served) -> None:
    bomb = bombs.module(*[bombs.straight(20_000)] * 100)
    async with undisturbed(served):
        answers = await asyncio.gather(
            *(served.upload(route(f"bomb-{number}"), bomb + bytes([0, 2, 1, number])) for number in range(3))
        )
    assert {answer.status_code for answer in answers} <= {422, 429, 503}
    codes = {answer.json()["code"] for answer in answers}
    assert "compile_too_expensive" in codes


# ---------------------------------------------------------------------------------------------- isolation = "process"


async def test_a_worker_that_is_killed_takes_one_call_along_and_nobody_else(served: Served) -> None:
    evil = route(cpu_ms=1000, limits={"wall_ms": 5000}, isolation="process")
    async with undisturbed(served), served.having(evil, TOOLS):
        (pid,) = workers(served.pop.pid)
        assert (await called(served, "/fn/evil/globals"))[2] == b"1 1"
        for _ in range(2):
            running = asyncio.ensure_future(called(served, "/fn/evil/loop"))  # noqa: TID251
            while not busy(pid):
                await asyncio.sleep(0)
            os.kill(pid, signal.SIGKILL)
            status, _, body = await running
            assert (status, error_of(body)[0]) == (502, "function_crash")
            async with asyncio.timeout(10):
                while (answer := await called(served, "/fn/evil/globals"))[0] != 200:
                    assert error_of(answer[2])[0] == "function_crash"
            assert answer[2] == b"1 1"
            (pid,) = workers(served.pop.pid)
    async with asyncio.timeout(10):
        while workers(served.pop.pid):  # the next request lets go of what was deleted
            await served.ask(QUESTION, key=THEIRS)


def workers(pid: int) -> list[int]:
    """The worker processes of a POP."""
    found = [
        int(each) for task in Path(f"/proc/{pid}/task").iterdir() for each in (task / "children").read_text().split()
    ]
    return [each for each in found if b"edgecache.wasm.worker" in Path(f"/proc/{each}/cmdline").read_bytes()]


def busy(pid: int) -> bool:
    """Whether a thread of `pid` runs."""
    return any(" R " in (task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir())
