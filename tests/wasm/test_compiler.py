import asyncio
import resource
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from wasmtime import wat2wasm

from edgecache.config.tree import Functions
from edgecache.errors import EdgeCacheError, FunctionFault, FunctionRefused, Overloaded
from edgecache.tasks import Tasks
from edgecache.wasm.base import Kind, Limits
from edgecache.wasm.binary import sections
from edgecache.wasm.compiler import Compiler
from edgecache.wasm.engine import Engine
from edgecache.wasm.load import load
from tests.wasm import bombs
from tests.wasm.conftest import core, request

HELLO = bytes(
    wat2wasm(core("(call $answer (i32.const 0) (i32.const 9))", before='(data (i32.const 0) "200\\n\\nhell")'))
)
SCRIPT = b"export default { fetch() { return new Response('hello') } }"
SETTINGS = Functions(max_memory=16 * 1024 * 1024, compile_cpu=20, compile_memory=2 * 1024**3)
pytestmark = pytest.mark.slow

Make = Callable[..., Compiler]


@pytest.fixture
def make(tmp_path: Path, engine: Engine) -> Make:
    def made(key: bytes = b"k" * 32, fingerprint: str = "", **settings: object) -> Compiler:
        changed = msgspec.structs.replace(SETTINGS, **settings)
        return Compiler(tmp_path / "functions", changed, key=key, fingerprint=fingerprint or engine.fingerprint)

    return made


@pytest.fixture
def compiler(make: Make) -> Compiler:
    return make()


def different(number: int) -> bytes:
    """An upload that is like no other."""
    return HELLO + b"\x00\x05\x04" + number.to_bytes(4, "big").replace(b"\0", b"a")


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    running = Tasks()
    yield running
    await running.close()


def children() -> list[int]:
    """Compilers that the threads of this one started and that still run."""
    found = [int(each) for path in Path("/proc/self/task").glob("*/children") for each in _text(path).split()]
    return [each for each in found if "wasm.compiling" in _text(Path(f"/proc/{each}/cmdline"))]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the thread ended meanwhile
        return ""


def written(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


async def refusal(compiler: Compiler, upload: bytes) -> FunctionRefused:
    with pytest.raises(FunctionRefused) as refused:
        await compiler.compile(upload)
    return refused.value


async def test_an_upload_becomes_a_program(compiler: Compiler, engine: Engine) -> None:
    made = await compiler.compile(HELLO)
    assert (made.kind, made.facts.functions, made.facts.bytes) == (Kind.CORE, 4, len(HELLO))
    assert made.cpu > 0
    assert made.bytes == made.code.stat().st_size
    program = load(engine, made)
    assert program.run(request(), Limits()).body == b"hell"
    program.close()


async def test_a_script_becomes_a_program(compiler: Compiler, engine: Engine) -> None:
    made = await compiler.compile(SCRIPT)
    assert made.kind is Kind.SCRIPT
    program = load(engine, made)
    assert program.run(request(), Limits(cpu=1)).body == b"hello"
    program.close()


async def test_what_was_compiled_is_not_compiled_again(compiler: Compiler, make: Make) -> None:
    made = await compiler.compile(HELLO)
    begun = time.perf_counter()
    assert await compiler.compile(HELLO) == made == await make().compile(HELLO) == await make().stored(made.digest)
    assert time.perf_counter() - begun < 0.1  # no child was started


async def test_another_engine_has_code_of_its_own(make: Make) -> None:
    made = await make().compile(HELLO)
    assert (await refusal(make(fingerprint="another"), HELLO)).code == "engine"
    assert await make().stored(made.digest) == made


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"evil"), lambda path: path.unlink()])
async def test_tampered_code_is_compiled_anew(compiler: Compiler, engine: Engine, spoil) -> None:
    made = await compiler.compile(HELLO)
    spoil(made.code)
    again = await compiler.stored(made.digest)
    assert again.sealed == made.sealed
    assert load(engine, again).run(request(), Limits()).status == 200


async def test_an_upload_that_is_gone(compiler: Compiler) -> None:
    made = await compiler.compile(HELLO)
    compiler.vault.forget(made.digest)
    with pytest.raises(FunctionFault, match="cannot be read"):
        await compiler.stored(made.digest)


REFUSED = {
    "a zip": (b"PK\x03\x04", "unknown_format", "zip archive"),
    "nothing": (b"", "empty", "empty"),
    "cut off": (HELLO[:60], "invalid_wasm", "bytes announced"),
    "wrong exports": (b"\0asm\x01\0\0\0", "wrong_exports", "needed are"),
    "unknown imports": (bombs.module(bombs.tiny(), imports=(("env", "exec"),)), "unknown_import", r"`env\.exec`"),
    "too much memory": (bombs.module(bombs.tiny(), pages=1000), "too_much_memory", "65,536,000 bytes"),
    "the validator": (bombs.module(b"\x00\x6a\x0b"), "invalid_wasm", "not valid WebAssembly: .*offset"),
    "wrong types": (
        bytes(wat2wasm('(module (memory (export "memory") 1) (func (export "alloc")) (func (export "handle")))')),
        "invalid_wasm",
        "alloc and handle",
    ),
    "a component of no world": (b"\0asm\x0d\0\1\0", "wrong_world", "incoming-handler"),
    "a mistake in a script": (b"export default {", "script", r"function\.js:1"),
    "a script that throws": (b"throw new Error('no')", "script", "no"),
    "a bomb of locals": (bombs.module(bombs.branchy(5000, 20_000)), "too_complex", "7.5 times as many"),
    "a bomb of functions": (bombs.module(*[bombs.tiny()] * 200_000), "too_complex", "200,001 functions"),
    "a bomb in one line": (bombs.module(bombs.straight(2_400_000)), "too_complex", "bytes in one function"),
}


@pytest.mark.parametrize("which", REFUSED)
async def test_is_refused_with_its_reason(compiler: Compiler, which: str) -> None:
    upload, code, words = REFUSED[which]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = await refusal(compiler, upload)
    assert refused.code == code, refused.message
    with pytest.raises(FunctionRefused, match=words):
        raise refused
    assert written(compiler.vault.code.parent) == []
    assert children() == []
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 4 * len(upload) + 16 * 1024**2


async def test_a_module_cut_off_between_two_sections_is_refused_too(compiler: Compiler) -> None:
    module = bombs.module(bombs.tiny())
    assert (await compiler.compile(module)).kind is Kind.CORE
    for section in list(sections(module)):
        refused = await refusal(compiler, module[: section.start - 2])
        assert refused.code in {"wrong_exports", "invalid_wasm"}


async def test_too_many_bytes(make: Make) -> None:
    refused = await refusal(make(max_artefact_bytes=100), HELLO)
    assert refused.code == "too_large"
    assert f"({len(HELLO) - 100} too many)" in refused.message


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(bombs.module(bombs.straight(600_000)), id="one line"),
        pytest.param(bombs.module(*[bombs.table_flood(65_000)] * 40), id="jump tables"),
        pytest.param(bombs.module(*[bombs.straight(20_000)] * 100), id="long functions"),
    ],
)
async def test_what_the_caps_let_through_is_stopped_by_time(make: Make, bomb: bytes) -> None:
    begun = time.perf_counter()
    refused = await refusal(make(compile_cpu=1), bomb)
    assert refused.code == "compile_too_expensive"
    assert "1 s of CPU time" in refused.message
    assert time.perf_counter() - begun < 20  # 1.3 s where nothing else runs
    assert children() == []


async def test_or_by_memory(make: Make) -> None:
    refused = await refusal(make(compile_memory=600 * 1024**2), bombs.module(bombs.straight(600_000)))
    assert refused.code == "compile_too_expensive"
    assert "0.585938 GiB of memory" in refused.message


async def test_a_script_that_never_ends_its_top_level(make: Make) -> None:
    refused = await refusal(make(compile_cpu=2), b"while (true) {}")
    assert refused.code == "script"


async def test_many_at_once_take_turns(compiler: Compiler) -> None:
    most = 0
    works = asyncio.gather(*(compiler.compile(different(number)) for number in range(10)))
    while not works.done():
        most = max(most, len(children()))
        await asyncio.sleep(0)
    assert len({made.digest for made in await works}) == 10
    assert most == 1


async def test_too_many_at_once_are_told_to_come_back(compiler: Compiler) -> None:
    results = await asyncio.gather(
        *(compiler.compile(different(number)) for number in range(40)), return_exceptions=True
    )
    kinds = {type(result) for result in results if isinstance(result, EdgeCacheError)}
    assert kinds == {Overloaded}
    assert sum(isinstance(result, Overloaded) for result in results) == 24


async def test_the_same_upload_ten_times_is_compiled_once(compiler: Compiler) -> None:
    made = await asyncio.gather(*(compiler.compile(HELLO) for _ in range(10)))
    assert len(set(map(id, made))) > 1
    assert len({each.cpu for each in made}) == 1  # measured by the one child there was


async def test_the_loop_goes_on_meanwhile(compiler: Compiler, tasks: Tasks) -> None:
    work = tasks.spawn(compiler.compile(bombs.module(*[bombs.straight(20_000)] * 5)), name="upload")
    lags = []
    while not work.done():
        begun = time.perf_counter()
        await asyncio.sleep(0)
        lags.append(time.perf_counter() - begun)
    await work
    lags.sort()
    assert lags[len(lags) // 2] < 0.001


async def test_giving_up_kills_the_child(compiler: Compiler, tasks: Tasks) -> None:
    work = tasks.spawn(compiler.compile(bombs.module(bombs.straight(600_000))), name="upload")
    while not children():
        await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert children() == []
    assert written(compiler.vault.code) == []
    assert (await compiler.compile(HELLO)).kind is Kind.CORE


async def test_giving_up_before_it_is_ones_turn(compiler: Compiler, tasks: Tasks) -> None:
    first = tasks.spawn(compiler.compile(bombs.module(*[bombs.straight(20_000)] * 5)), name="upload")
    while not children():
        await asyncio.sleep(0)
    second = tasks.spawn(compiler.compile(HELLO), name="upload")
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert (await first).kind is Kind.CORE
