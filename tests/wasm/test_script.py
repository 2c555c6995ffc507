"""Plain JavaScript as a function. One script runs what the tests give it, since making one takes a second."""

# ruff: noqa: E501 - tables of JavaScript

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm.base import Limits, Request, pack, unpack
from edgecache.wasm.engine import Engine
from edgecache.wasm.hostcalls import Code, answered, refused
from edgecache.wasm.script import ScriptProgram
from edgecache.wasm.snapshot import build
from tests.wasm.conftest import Scripted

RUNNER = """
let counter = 0;
let seen = [];
export default {
  fetch(request, env, ctx) {
    const code = decodeURIComponent(request.headers.get("x-code"));
    return new Function("request", "env", "ctx", "count", code)(request, env, ctx, () => ++counter);
  },
};
"""
EVERY_BYTE = bytes(range(256))
NOW = 1_700_000_000_123
LIMITS = Limits(cpu=2.0, wall=10.0, memory=16 << 20)


@pytest.fixture(scope="module")
def runner(engine, tmp_path_factory):
    compiler = Engine(instances=1, memory=64 << 20, tick=None)
    wasm, extra = build(compiler, RUNNER)
    code = tmp_path_factory.mktemp("script") / "runner.cwasm"
    code.write_bytes(compiler.compile_module(wasm))
    compiler.close()
    made = ScriptProgram(engine, code, json.loads(json.dumps(extra)))
    yield made
    made.close()


def quoted(code):
    return "".join(f"%{byte:02x}" for byte in code.encode())


def call(runner, code, body=b"", headers=(), host=None, limits=LIMITS, seed=bytes(32), target="/v1/x?a=1", **more):
    fields = (("x-code", quoted(code)), *headers)
    return runner.run(Request("POST", target, fields, body, NOW * 10**6, seed, **more), limits, host)


def value(runner, code, **more):
    """What an expression of JavaScript is, through JSON; it may await."""
    found = call(runner, f"return (async () => Response.json({{ found: await ({code}) }}))()", **more)
    return json.loads(found.body).get("found")


def fails(runner, code, **more):
    with pytest.raises(FunctionFault) as caught:
        call(runner, code, **more)
    return caught.value.fault, caught.value.message


# -- Requests and responses


def test_a_request_comes_in_whole(runner):
    code = "[request.method, request.url, [...request.headers].slice(0, 2), await request.text(), request.bodyUsed]"
    found = value(
        runner, code, body="h\u00e9llo \U0001f600".encode(), headers=(("a", "1"), ("a", "2"), ("b", "\u00e9"))
    )
    assert found == [
        "POST",
        "http://edgecache.local/v1/x?a=1",
        [["a", "1, 2"], ["b", "\u00e9"]],
        "h\u00e9llo \U0001f600",
        True,
    ]


def test_a_response_goes_out_whole(runner):
    code = "return new Response('h\\u00e9', {status: 201, headers: [['x-a', ' 1 '], ['set-cookie', 'a'], ['set-cookie', 'b']]})"
    answer = call(runner, code)
    assert answer.status == 201
    assert answer.headers == (
        ("x-a", "1"),
        ("set-cookie", "a"),
        ("set-cookie", "b"),
        ("content-type", "text/plain;charset=UTF-8"),
    )
    assert answer.body == "h\u00e9".encode()
    assert answer.usage.memory > 0


@pytest.mark.parametrize("read", ["bytes", "arrayBuffer"])
def test_bodies_are_bytes_both_ways(runner, read):
    code = f"return request.{read}().then((data) => new Response(data))"
    for body in (EVERY_BYTE, b"", b"plain", b"\0", EVERY_BYTE * 2000, "\U0001f600\ufeff".encode() * 50_000):
        assert call(runner, code, body=body).body == body


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text())
def test_text_is_the_same_after_both_ways(runner, text):
    body = text.encode()
    assert call(runner, "return request.text().then((t) => new Response(t))", body=body).body == (
        body.removeprefix(b"\xef\xbb\xbf")
    )


def test_bytes_that_are_no_text_are_replaced_in_text(runner):
    assert value(runner, "request.text()", body=b"a\xff\xe2\x82b") == "a\ufffd\ufffdb"


def test_json_goes_in_and_out(runner):
    code = "return request.json().then((data) => Response.json({ ...data, more: [1, null] }, { status: 203 }))"
    answer = call(runner, code, body=b'{"a": "\xc3\xa9"}')
    assert (answer.status, answer.headers) == (203, (("content-type", "application/json"),))
    assert json.loads(answer.body) == {"a": "\u00e9", "more": [1, None]}


def test_204_and_redirects(runner):
    assert call(runner, "return new Response(null, {status: 204})").status == 204
    answer = call(runner, "return Response.redirect('https://a.example/x', 307)")
    assert (answer.status, answer.headers) == (307, (("location", "https://a.example/x"),))


def test_bodies_are_read_once_unless_cloned(runner):
    code = "(async () => { const c = request.clone(); return [await c.text(), await request.text(), request.bodyUsed]; })()"
    assert value(runner, code, body=b"x") == ["x", "x", True]
    assert "already been read" in fails(runner, "return request.text().then(() => request.text())", body=b"x")[1]


def test_a_body_is_a_stream_of_one_part(runner):
    code = "(async () => { let n = []; for await (const part of request.body) n.push(part.length); return n; })()"
    assert value(runner, code, body=b"12345") == [5]
    code = """(async () => { const reader = request.body.getReader(); const first = await reader.read();
        return [first.value.length, (await reader.read()).done]; })()"""
    assert value(runner, code, body=EVERY_BYTE) == [256, True]
    assert call(runner, "return new Response(request.body)", body=b"through").body == b"through"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("[...new Headers({ B: 1, a: ' 2\\t' })]", [["a", "2"], ["b", "1"]]),
        (
            "(() => { const h = new Headers([['a', 1]]); h.append('A', 2); h.set('c', 3); h.delete('c'); return [h.get('a'), h.has('c'), h.get('c')] })()",
            ["1, 2", False, None],
        ),
        ("new Request('http://a.example/x y', { method: 'post', body: 'b' }).url", "http://a.example/x%20y"),
        (
            "new Request('http://a/', { method: 'post', body: new URLSearchParams({a: '1'}) }).headers.get('content-type')",
            "application/x-www-form-urlencoded;charset=UTF-8",
        ),
        ("(() => { try { new Headers({ 'a b': 1 }) } catch (e) { return e.name } })()", "TypeError"),
        ("(() => { try { new Headers({ a: '1\\n2' }) } catch (e) { return e.name } })()", "TypeError"),
        ("(() => { try { new Request('http://a/', { body: 'x' }) } catch (e) { return e.name } })()", "TypeError"),
        ("(() => { try { new Response('x', { status: 204 }) } catch (e) { return e.name } })()", "TypeError"),
        ("(() => { try { new Response('x', { status: 99 }) } catch (e) { return e.name } })()", "RangeError"),
        ("new Response('x', { status: 299 }).ok", True),
    ],
)
def test_the_fetch_standard_where_handlers_need_it(runner, code, found):
    assert value(runner, code) == found


# -- What is around a handler


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("new URL('../c?d#e', 'https://u:p@A.example:443/x/y/z').href", "https://u:p@a.example/x/c?d#e"),
        ("new URL('http://a.example/ü?q=ü#ü').href", "http://a.example/%C3%BC?q=%C3%BC#%C3%BC"),
        ("new URL('HTTP://EXAMPLE.com:8080/a/./b/../c').pathname", "/a/c"),
        ("new URL('//other/x', 'http://a/b').href", "http://other/x"),
        ("new URL('?x', 'http://a/b?c#d').href", "http://a/b?x"),
        ("new URL('http:///x').href", "http://x/"),
        ("new URL('http:\\\\\\\\a\\\\b').href", "http://a/b"),
        ("new URL('https:x', 'https://h/a/b').href", "https://h/a/x"),
        (
            "['http://', 'http://256.1.1.1/', 'http://a..b:x/', 'http://%00/', ''].map((u) => URL.canParse(u))",
            [False] * 5,
        ),
        ("new URL('http://0x7f.1/').hostname", "127.0.0.1"),
        ("new URL('http://[::1]:80/').host", "[::1]"),
        ("new URL('data:text/plain,a b').pathname", "text/plain,a b"),
        (
            "[URL.canParse('nope'), URL.canParse('/x', 'http://a'), URL.canParse('http://a b/'), URL.canParse('http://a:99999/')]",
            [False, True, False, False],
        ),
        (
            "(() => { const u = new URL('http://a/'); u.searchParams.append('k', 'v w'); u.port = 81; u.hash = 'x'; return u.href })()",
            "http://a:81/?k=v+w#x",
        ),
        (
            "(() => { const u = new URL('http://a/?a=1'); u.search = 'b=2'; u.pathname = 'p q'; return [u.searchParams.get('b'), u.href] })()",
            ["2", "http://a/p%20q?b=2"],
        ),
        ("new URL(request.url).searchParams.get('a')", "1"),
        ("[...new URLSearchParams('a=1&b=%41+c&a=2&d')]", [["a", "1"], ["b", "A c"], ["a", "2"], ["d", ""]]),
        ("new URLSearchParams([['q', \"it's ~*&=\\u00e9\"]]).toString()", "q=it%27s+%7E*%26%3D%C3%A9"),
        ("new URLSearchParams('b=1&a=2').size", 2),
    ],
)
def test_urls(runner, code, found):
    assert value(runner, code) == found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (
            "[...new TextEncoder().encode('h\\u00e9\\u{1F600}\\ud800')]",
            [104, 195, 169, 240, 159, 152, 128, 239, 191, 189],
        ),
        ("new TextDecoder().decode(new Uint8Array([239, 187, 191, 104, 255]))", "h\ufffd"),
        (
            "(() => { try { new TextDecoder('utf-8', {fatal: true}).decode(new Uint8Array([255])) } catch (e) { return e.name } })()",
            "TypeError",
        ),
        (
            "(() => { const d = new TextDecoder(); return d.decode(new Uint8Array([0xe2, 0x82]), {stream: true}) + d.decode(new Uint8Array([0xac])) })()",
            "\u20ac",
        ),
        ("new TextEncoder().encodeInto('\\u00e9a', new Uint8Array(2))", {"read": 1, "written": 2}),
        ("[atob('aGk='), btoa('hi')]", ["hi", "aGk="]),
        (
            "structuredClone({ a: [1, { b: new Date(0) }], m: [...structuredClone(new Map([[1, 2]]))] })",
            {"a": [1, {"b": "1970-01-01T00:00:00.000Z"}], "m": [[1, 2]]},
        ),
        ("(() => { try { structuredClone(() => {}) } catch (e) { return e.name } })()", "DataCloneError"),
        (
            "(() => { const c = new AbortController(); let n = 0; c.signal.addEventListener('abort', () => n++); c.abort(); c.abort(); return [n, c.signal.aborted, c.signal.reason.name] })()",
            [1, True, "AbortError"],
        ),
        (
            "(async () => { const order = []; await new Promise((done) => { setTimeout(done, 50); setTimeout(() => order.push('b'), 20); setTimeout((x) => order.push(x), 10, 'a'); queueMicrotask(() => order.push('m')); clearTimeout(setTimeout(() => order.push('never'), 1)) }); return order })()",
            ["m", "a", "b"],
        ),
        (
            "new Promise((done) => { let n = 0; const id = setInterval(() => { if (++n === 3) { clearInterval(id); done(n) } }, 5) })",
            3,
        ),
        (
            "[typeof self, globalThis === self, typeof process, typeof require]",
            ["object", True, "undefined", "undefined"],
        ),
        ("Object.keys(globalThis).filter((name) => !['counter', 'seen'].includes(name))", []),
    ],
)
def test_what_handlers_expect_around_them(runner, code, found):
    assert value(runner, code) == found


def test_clocks_show_the_time_of_the_request(runner):
    assert value(runner, "[Date.now(), new Date().toISOString(), performance.timeOrigin]") == [
        NOW,
        "2023-11-14T22:13:20.123Z",
        NOW,
    ]
    assert value(runner, "performance.now() < 1")
    assert value(runner, "new Date(0).getTimezoneOffset()") == 0


def test_randomness_is_the_requests(runner):
    code = "[Math.random(), Math.random(), crypto.randomUUID(), [...crypto.getRandomValues(new Uint8Array(4))]]"
    first, again, other = (value(runner, code, seed=seed) for seed in (bytes(32), bytes(32), b"x" * 32))
    assert first == again
    assert not {*map(str, first)} & {*map(str, other)}
    assert first[0] != first[1]
    assert all(0 <= each < 1 for each in first[:2])
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", first[2])


# -- The host


def test_what_is_logged_reaches_the_host(runner):
    host = Scripted()
    call(
        runner,
        "console.log('a', {b: [1n, new Map([[1, 2]])]}, null); console.error(new TypeError('x')); console.debug(1);"
        "const loop = {}; loop.loop = loop; console.warn(loop); edgecache.log('trace', 'deep'); return new Response()",
        host=host,
    )
    lines = [tuple(each.decode() for each in unpack(argument)) for op, argument in host.asked if op == "log"]
    assert lines[0] == ("info", 'a {"b":["1n",[[1,2]]]} null')
    assert lines[1][0] == "error"
    assert lines[1][1].startswith("TypeError: x\n    at anonymous (<input>:")
    assert lines[2:] == [("debug", "1"), ("warn", '{"loop":"[circular]"}'), ("trace", "deep")]


class Answers(Scripted):
    """A host that gives the answers of a table."""

    def __init__(self, **answers):
        super().__init__(lambda op, _argument: answers[op.replace(".", "_")])


@pytest.mark.parametrize(
    ("code", "op", "asked", "answer", "found"),
    [
        ("[...edgecache.kv('s').get('k')]", "kv.get", ["s", "k"], [b"\xff\x00"], [255, 0]),
        ("edgecache.kv('s').get('k')", "kv.get", ["s", "k"], [], None),
        ("edgecache.kv('s').getText('k')", "kv.get", ["s", "k"], ["é\U0001f600,3:x".encode()], "é\U0001f600,3:x"),
        ("edgecache.kv('s').set('k', 'v', {ttl: 60})", "kv.set", ["s", "k", "v", "60"], [], None),
        ("edgecache.kv('s').set('k', {a: 1})", "kv.set", ["s", "k", '{"a":1}'], [], None),
        ("edgecache.kv('s').delete('k')", "kv.delete", ["s", "k"], [], None),
        ("edgecache.kv('s').exists('k')", "kv.exists", ["s", "k"], [b"1"], True),
        ("edgecache.kv('s').keys('p')", "kv.keys", ["s", "p"], [b"pa", "pé".encode(), b""], ["pa", "pé", ""]),
        ("edgecache.kv('s').increment('k', -2)", "kv.increment", ["s", "k", "-2"], [b"40"], 40),
        ("edgecache.kv('s').compareAndSwap('k', null, 'n')", "kv.swap", ["s", "k", "-", "", "n"], [b"1"], True),
        ("edgecache.kv('s').compareAndSwap('k', 'o', 'n')", "kv.swap", ["s", "k", "=", "o", "n"], [b"0"], False),
        ("edgecache.variable('greeting')", "var.get", ["greeting"], ["grüß".encode()], "grüß"),
        ("env.greeting", "var.get", ["greeting"], [b"hi"], "hi"),
        (
            "edgecache.llm.infer('m', 'p', {topK: 3})",
            "llm.infer",
            ["m", "p", "100", "1.1", "64", "0.8", "3", "0.9"],
            [b"t", b"1", b"2"],
            {"text": "t", "promptTokens": 1, "completionTokens": 2},
        ),
        (
            "(() => { const r = edgecache.llm.embed('m', ['a', 'b']); return [r.promptTokens, r.embeddings.map((v) => [...v])] })()",
            "llm.embed",
            ["m", "a", "b"],
            [b"2", b"\0\0\x80?\0\0\0@", b"\0\0\0\0"],
            [2, [[1, 2], [0]]],
        ),
        (
            "edgecache.cache.lookup('m', 'q')",
            "cache.lookup",
            ["m", "q"],
            [b'{"a":1}', b"0.97", b"e1"],
            {"answer": {"a": 1}, "similarity": 0.97, "entry": "e1"},
        ),
        ("edgecache.cache.lookup('m', 'q')", "cache.lookup", ["m", "q"], [], None),
    ],
)
def test_every_operation_is_asked_and_answered(runner, code, op, asked, answer, found):
    host = Answers(**{op.replace(".", "_"): answered(*answer)})
    assert value(runner, code, host=host) == found
    assert host.asked == [(op, pack(*[each.encode() for each in asked]))]


def test_binary_values_are_kept(runner):
    host = Scripted()
    call(
        runner,
        "edgecache.kv('s').set('k', new Uint8Array([9, 255, 0, 7]).subarray(1, 3)); return new Response()",
        host=host,
    )
    assert host.asked == [("kv.set", pack(b"s", b"k", b"\xff\0"))]


def test_fetch_gives_a_response(runner):
    host = Answers(fetch=answered(b"404", EVERY_BYTE, b"x-a", b"1", b"x-b", "é".encode()))
    code = """(async () => {
        const r = await fetch("https://api.example/x", { method: "PUT", headers: { "x-q": "1" }, body: new Uint8Array([1, 255]) });
        return [r.status, r.ok, r.url, [...r.headers], (await r.bytes()).length];
    })()"""
    assert value(runner, code, host=host) == [404, False, "https://api.example/x", [["x-a", "1"], ["x-b", "é"]], 256]
    assert host.asked == [("fetch", pack(b"PUT", b"https://api.example/x", b"\x01\xff", b"x-q", b"1"))]


def test_a_fetched_response_may_be_the_answer(runner):
    host = Answers(fetch=answered(b"200", EVERY_BYTE, b"content-type", b"image/png"))
    answer = call(runner, "return fetch('https://api.example/')", host=host)
    assert (answer.headers, answer.body) == ((("content-type", "image/png"),), EVERY_BYTE)


def test_what_is_refused_is_an_error_with_a_code(runner):
    host = Scripted(lambda op, _argument: refused(Code.DENIED, f"{op} is not for you: é"))
    code = "(() => { try { edgecache.kv('s').get('k') } catch (e) { return [e.name, e.code, e.message] } })()"
    assert value(runner, code, host=host) == ["Error", "denied", "kv.get is not for you: é"]
    code = "fetch('https://a.example/').catch((e) => [e.code, e instanceof Error])"
    assert value(runner, code, host=host) == ["denied", True]
    assert value(runner, "env.missing === undefined", host=host)


def test_what_a_host_raises_ends_the_call(runner):
    def broken(_op, _argument):
        raise FunctionFault(Fault.BUDGET, "no more calls")

    assert fails(runner, "try { env.x } catch {} return new Response()", host=Scripted(broken)) == (
        Fault.BUDGET,
        "no more calls",
    )


def test_waiting_for_more_after_the_answer(runner):
    host = Scripted()
    code = """ctx.waitUntil((async () => { await null; console.log("first"); await new Promise((d) => setTimeout(d, 9)); console.log("last") })());
        ctx.waitUntil(Promise.reject(new Error("lost"))); ctx.waitUntil(new Promise(() => {}));
        return new Response("now")"""
    assert call(runner, code, host=host).body == b"now"
    said = [unpack(argument)[1].split(b"\n")[0] for _, argument in host.asked]
    assert said == [b"first", b"Error: lost", b"last"]


# -- What goes wrong


def test_an_exception_is_a_fault_that_says_where(runner):
    host = Scripted()
    fault, message = fails(runner, "\nlet x;\nx.y = 1", host=host)
    assert fault is Fault.TRAP
    assert re.match(r"TypeError: .+\n    at anonymous \(<input>:5:\d+\)\n    at fetch \(function\.js:7:\d+\)", message)
    assert "edgecache" not in message
    assert [unpack(argument) for _, argument in host.asked] == [[b"error", message.encode()]]


@pytest.mark.parametrize(
    ("code", "fault", "said"),
    [
        ("throw new Error('boom')", Fault.TRAP, "Error: boom"),
        ("return Promise.reject(new Error('late'))", Fault.TRAP, "Error: late"),
        ("throw 'text'", Fault.TRAP, "threw text"),
        ("throw null", Fault.TRAP, "threw null"),
        ("throw { toString() { throw 1 }, toJSON() { throw 2 } }", Fault.TRAP, "threw [2]"),
        ("return", Fault.ANSWER, "the handler answered with nothing where a Response was expected"),
        (
            "return 'text'",
            Fault.ANSWER,
            "the handler answered with a value of type string where a Response was expected",
        ),
        ("return Promise.resolve({})", Fault.ANSWER, "the handler answered with a value of type object where"),
        ("return null", Fault.ANSWER, "the handler answered with null where a Response was expected"),
        ("return new Promise(() => {})", Fault.ANSWER, "never answered: its promise waits for something"),
        ("setTimeout(() => { throw new Error('x') }); return new Promise(() => {})", Fault.ANSWER, "never answered"),
        ("const r = new Response('x'); return r.text().then(() => r)", Fault.TRAP, "TypeError: the body has already"),
        ("const r = new Response('x'); r.status = 'abc'; return r", Fault.ANSWER, "answered the status 'abc'"),
        (
            "const r = new Response('x'); r.status = '200\\n9'; return r",
            Fault.ANSWER,
            "answered with a head that cannot be read",
        ),
        ("Array.prototype.join = () => 'x'; return new Response('', {headers: {a: '1'}})", Fault.ANSWER, "answered"),
        ("Promise.prototype.then = () => {}; return (async () => new Response())()", Fault.ANSWER, "never answered"),
        ("while (true) {}", Fault.CPU, "took more than its 50 ms in the sandbox"),
        ("return (async () => { for (;;) await null })()", Fault.CPU, "took more than its 50 ms in the sandbox"),
        ("return new Promise(() => setInterval(() => {}, 1))", Fault.CPU, "took more than its 50 ms in the sandbox"),
        ("/^(a+)+$/.test('a'.repeat(40) + '!')", Fault.CPU, "took more than its 50 ms in the sandbox"),
        ("for (;;) try { while (true) {} } catch {}", Fault.CPU, "took more than its 50 ms in the sandbox"),
        ("(function f() { f() })()", Fault.STACK, "RangeError: Maximum call stack size exceeded"),
        ("await 1", Fault.TRAP, "SyntaxError"),
        ("return import('node:fs')", Fault.TRAP, "ReferenceError: could not load module"),
    ],
)
def test_what_goes_wrong_is_said(runner, code, fault, said):
    found, message = fails(runner, code, limits=Limits(cpu=0.05, wall=5.0, memory=16 << 20))
    assert found is fault
    assert message.startswith(said)


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "for (const a = [];;) a.push('x'.repeat(1e5) + a.length)",
        "const a = []; for (;;) a.push(new Uint8Array(1e6))",
        "return new Response(new Array(1e7).fill('1234'))",
        "return new Response('x'.repeat(2 ** 29))",
        "try { for (let a = 'x';;) a += a + Math.random() } catch {} for (const a = [];;) a.push({})",
        "const a = []; a.length = 2 ** 32 - 1; return new Response(a.join('x'))",
    ],
)
def test_a_memory_bomb_ends_its_call_only(runner, code):
    fault, message = fails(runner, code)
    assert fault in {Fault.MEMORY, Fault.CPU} or re.match("(RangeError|InternalError|TypeError): .+", message)
    assert value(runner, "1") == 1


def test_an_answer_of_ten_million_elements_is_too_large(runner):
    limits = Limits(cpu=5.0, wall=10.0, memory=16 << 20, response=1 << 20)
    fault, message = fails(runner, "return new Response(new Uint8Array(5_000_000))", limits=limits)
    assert fault is Fault.SIZE
    assert "more than the 1048576 that it may answer" in message
    assert fails(runner, "return new Response('x'.repeat(5_000_000))", limits=limits)[0] is Fault.SIZE
    assert fails(runner, "return new Response('', {headers: {a: 'x'.repeat(70_000)}})")[0] is Fault.SIZE


def test_nothing_stays_from_call_to_call(runner):
    for _ in range(3):
        assert value(runner, "[count(), count()]") == [1, 2]
    spoil = "Object.prototype.polluted = 1; globalThis.leak = request.url; const R = Response; Response = null;"
    call(runner, f"{spoil} return new R('x')")
    assert value(runner, "[({}).polluted, typeof leak, typeof Response]") == [None, "undefined", "function"]


def test_a_body_in_parts_is_one_call_a_part_in_one_live_instance(runner):
    parts = [b"data: a\n\n", b"data: b\n\n", b"data: c\n\n"]
    host = Scripted(lambda op, _argument: answered(*([parts.pop(0)] if op == "body.read" and parts else [])))
    code = """const n = count(); return n === 2 ? new Response(null, {status: 204})
        : request.text().then((t) => new Response(`${n} ${t}`, {headers: {"x-n": String(n)}}))"""
    answer = call(runner, code, host=host, reads=True, writes=True)
    assert (answer.status, answer.body) == (200, b"")
    told = [(op, unpack(argument)) for op, argument in host.asked if op != "body.read"]
    assert told[0][0] == "body.head"
    assert told[0][1][:3] == [b"200", b"x-n", b"1"]
    assert [argument for _, argument in told[1:]] == [[b"1 data: a\n\n"], [b"data: b\n\n"], [b"3 data: c\n\n"]]


def test_extra_that_is_not_ours_is_not_loaded(engine, tmp_path):
    with pytest.raises(FunctionFault) as caught:
        ScriptProgram(engine, tmp_path / "none.cwasm", {"enter": "x"})
    assert caught.value.fault is Fault.LOAD
