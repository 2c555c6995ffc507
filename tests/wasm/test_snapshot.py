"""From a JavaScript file to a module: deterministic, bounded, and with errors that say where."""

import hashlib
import re

import pytest

from edgecache.errors import FunctionRefused
from edgecache.wasm.base import Limits
from edgecache.wasm.engine import Engine
from edgecache.wasm.interpreter import FOLDER
from edgecache.wasm.script import ScriptProgram
from edgecache.wasm.snapshot import PRELUDE, build
from tests.wasm.conftest import request

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def compiler():
    """As the child that compiles has it: nothing that would look at the time."""
    made = Engine(instances=1, memory=64 * 1024 * 1024, tick=None)
    yield made
    made.close()


@pytest.fixture
def answer(compiler, engine, tmp_path):
    """What a file answers."""

    def answer(source):
        wasm, extra = build(compiler, source)
        code = tmp_path / "script.cwasm"
        code.write_bytes(compiler.compile_module(wasm))
        program = ScriptProgram(engine, code, extra)
        try:
            return program.run(request(b"{}"), Limits(cpu=1.0, memory=16 << 20)).body.decode()
        finally:
            program.close()

    return answer


def refusal(compiler, source):
    with pytest.raises(FunctionRefused) as caught:
        build(compiler, source)
    assert caught.value.code == "script"
    return caught.value.message


def test_quickjs_is_the_one_that_its_readme_names():
    readme = (FOLDER / "README.md").read_text()
    binary = (FOLDER / "quickjs.wasm").read_bytes()
    assert re.search(r"sha256 +([0-9a-f]{64})", readme)[1] == hashlib.sha256(binary).hexdigest()
    assert f"{len(binary)} bytes" in readme
    assert {path.stem for path in (FOLDER / "prelude").iterdir()} == set(PRELUDE)


@pytest.mark.parametrize(
    "source",
    [
        "export default { fetch(request) { return new Response('yes'); } }",
        "export default { async fetch() { return new Response(await this.word()); }, word: async () => 'yes' }",
        "export default async function (request) { return new Response('yes'); }",
        "export function fetch(request) { return new Response('yes'); }",
        "export async function handleRequest(request) { return new Response('yes'); }",
        "export const onRequest = (request) => new Response('yes');",
        "addEventListener('fetch', (event) => event.respondWith(new Response('yes')));",
        "addEventListener('fetch', (event) => { event.respondWith((async () => new Response('yes'))()); });",
        "function handleRequest(request) { return new Response('yes'); }",
        "\ufeffwith ({ word: 'yes' }) { var onRequest = () => new Response(word); }",
        "const word = await Promise.resolve('yes'); export default { fetch: () => new Response(word) };",
    ],
)
def test_every_way_to_write_a_handler_works(answer, source):
    assert answer(source) == "yes"


def test_the_same_file_gives_the_same_bytes(compiler):
    source = """
        const made = [Math.random(), Date.now(), crypto.randomUUID(), new Map([[{}, 1]])];
        console.log("loading", made);
        export default { fetch: () => new Response(JSON.stringify(made)) };
    """
    first, again = build(compiler, source), build(compiler, source)
    assert first == again
    assert build(compiler, source.replace("loading", "other"))[0] != first[0]
    assert len(first[0]) < 1_100_000


def test_what_the_top_level_made_is_there_in_every_call(answer):
    source = """
        const table = {};
        for (let i = 0; i < 1e4; i++) table[i] = i * 2;
        export default () => Response.json(table[5000]);
    """
    assert answer(source) == "10000"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("const a = 1;\nexport default { fetch( { }", r"function\.js:2:\d+: SyntaxError: .+"),
        ("function handleRequest() {\n  return (;\n}", r"function\.js:2:\d+: SyntaxError: .+"),
        ("\n\nthrow new TypeError('no ' + 'good')", r"function\.js:3:\d+: TypeError: no good"),
        ("export default { fetch() {} };\nundefined.x", r"function\.js:2:\d+: TypeError: .+undefined"),
        ("await Promise.reject(new Error('later'));\nexport default () => {}", r"function\.js:1:\d+: Error: later"),
        ("throw 'a string'", r"function\.js: a string"),
        ("await new Promise(() => {}); export default () => {}", r"function\.js: its top level waits for a promise .+"),
        ("const a = 1;", r"function\.js has no handler: write `export default \{ fetch\(request\) .+"),
        ("", r"function\.js has no handler: .+"),
        ("export default 42;", r"function\.js has no handler: .+"),
        ("import x from './x.js';\nexport default x;", r"function\.js.+could not load module.+bundled into it.+"),
        ("import fs from 'node:fs';\nexport default fs;", r"function\.js.+could not load module.+"),
        (
            "addEventListener('scheduled', () => {})",
            r'function\.js:1:\d+: TypeError: there are no "scheduled" events .+',
        ),
        (
            "const t = edgecache.variable('x');",
            r"function\.js:1:\d+: Error: var\.get can be called by the handler only.+",
        ),
        ("while (true) {}", r"function\.js: its top level took more than about 100,000,000 loops and calls"),
        (
            "/^(a+)+$/.test('a'.repeat(40) + '!')",
            r"function\.js: its top level took more than about 100,000,000 loops and calls",
        ),
        ("for (const a = [];;) a.push('x'.repeat(1e6) + a.length)", r"function\.js.*(out of memory|memory).*"),
        ("(function f() { f(); })()", r"function\.js:1:\d+: RangeError: Maximum call stack size exceeded"),
        (
            "const f = () => Promise.resolve().then(f); await f();",
            r"function\.js: (its top level took more than about 100,000,000 loops and calls|.+out of memory)",
        ),
    ],
)
def test_what_cannot_be_taken_is_said_with_its_place(compiler, source, said):
    assert re.fullmatch(said, refusal(compiler, source))
