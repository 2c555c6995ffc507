import contextlib

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecache.errors import Fault, FunctionFault
from edgecache.functions.capabilities import OPERATIONS, STREAMING
from edgecache.functions.manifest import Allow
from edgecache.wasm import hostcalls
from edgecache.wasm.base import NoHost, pack, unpack
from edgecache.wasm.hostcalls import Code, HostRefused, result

EVERYTHING = Allow(
    kv=("default",),
    variables=("v",),
    secrets=("s",),
    fetch=("http://127.0.0.1:1",),
    llm=("parrot",),
    cache=True,
)
MINIMAL = {
    "log": ("info", "x"),
    "var.get": ("v",),
    "kv.open": ("s",),
    "kv.get": ("s", "k"),
    "kv.set": ("s", "k", "v"),
    "kv.delete": ("s", "k"),
    "kv.exists": ("s", "k"),
    "kv.keys": ("s",),
    "kv.increment": ("s", "k", "1"),
    "kv.swap": ("s", "k", "-", "", "v"),
    "fetch": ("GET", "http://a.example/", ""),
    "llm.infer": ("m", "p"),
    "llm.embed": ("m", "t"),
    "cache.lookup": ("m", "q"),
}


def test_the_operations_are_those_of_the_table_in_hostcalls() -> None:
    documented = {line.split("`")[1] for line in (hostcalls.__doc__ or "").splitlines() if line.startswith("| `")}
    assert documented == {*OPERATIONS, *STREAMING} == {*MINIMAL, *STREAMING}


@pytest.mark.parametrize("op", sorted(set(MINIMAL) - {"log"}))
def test_everything_but_the_log_is_denied_by_default(bench, refusal, op: str) -> None:
    code, message = refusal(bench.host(), op, *MINIMAL[op])
    assert code is Code.DENIED
    assert "under [allow] in function.toml" in message
    assert bench.counted(op, "denied") == 1
    (record,) = bench.journal.records("acme", "f")
    assert (record.event, record.level) == ("audit", "warn")


@pytest.mark.parametrize("op", sorted(MINIMAL))
def test_a_wrong_number_of_fields_is_named(bench, refusal, op: str) -> None:
    operation = OPERATIONS[op]
    code, message = refusal(bench.host(EVERYTHING), op, *["x"] * (operation.least - 1))
    assert (code, message) == (
        Code.INVALID,
        f"{op} takes {operation.takes}: not {operation.least - 1} fields",
    )
    if operation.most is not None:
        assert refusal(bench.host(EVERYTHING), op, *["x"] * (operation.most + 1))[0] is Code.INVALID


@pytest.mark.parametrize("op", ["", "exec", "kv", "kv.get ", "LOG", "body", "fetch\x00", "x" * 10_000])
def test_no_other_operations(bench, refusal, op: str) -> None:
    code, message = refusal(bench.host(EVERYTHING), op, "x")
    assert code is Code.INVALID
    assert message.startswith("there is no host operation")
    assert len(message) < 200
    assert bench.counted("unknown", "invalid") == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(op=st.sampled_from(sorted({*OPERATIONS} - {"llm.infer"})), argument=st.binary(max_size=60))
def test_whatever_comes_in_an_answer_goes_out(bench, op: str, argument: bytes) -> None:
    with contextlib.suppress(HostRefused):
        result(bench.host(EVERYTHING).call(op, argument))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(op=st.sampled_from(sorted(OPERATIONS)), fields=st.lists(st.binary(max_size=8) | st.sampled_from(
    [b"default", b"parrot", b"GET", b"http://127.0.0.1:1/", b"-", b"=", b"v", b"s"]), max_size=8))  # fmt: skip
def test_whatever_the_fields_are_too(bench, op: str, fields: list[bytes]) -> None:
    host = bench.host(EVERYTHING)
    answer = host.call(op, pack(*fields))
    assert answer[:1] in {b"=", b"!"}
    if answer[:1] == b"=":
        unpack(answer[1:])


def test_too_many_calls_end_the_call(bench, ask) -> None:
    host = bench.host(host_calls=3)
    for _ in range(3):
        ask(host, "log", "info", "x")
    with pytest.raises(FunctionFault, match="4 host calls, of at most 3") as caught:
        ask(host, "log", "info", "x")
    assert caught.value.fault is Fault.BUDGET
    assert (bench.counted("log", "ok"), bench.counted("log", "budget")) == (3, 1)


def test_refused_and_unknown_calls_count_too(bench) -> None:
    host = bench.host(host_calls=2)
    host.call("exec", b"")
    host.call("log", b"not a netstring")
    with pytest.raises(FunctionFault, match="3 host calls"):
        host.call("exec", b"")


def test_too_many_bytes_end_the_call_on_their_way_in_or_out(bench, ask) -> None:
    with pytest.raises(FunctionFault, match="bytes through host calls, of at most 1000"):
        bench.host(Allow(kv=("default",)), host_bytes=1000).call("kv.set", pack(b"default", b"k", bytes(2000)))
    ask(bench.host(Allow(kv=("default",))), "kv.set", "default", "k", bytes(2000))
    reader = bench.host(Allow(kv=("default",)), host_bytes=1000)
    with pytest.raises(FunctionFault, match="bytes through host calls, of at most 1000"):
        ask(reader, "kv.get", "default", "k")
    assert bench.counted("kv.get", "budget") == 1


def test_an_effect_is_audited_even_when_its_answer_is_one_too_much(bench, ask) -> None:
    host = bench.host(Allow(llm=("parrot",)), host_bytes=60)
    with pytest.raises(FunctionFault):
        ask(host, "llm.infer", "parrot", "x" * 30)
    assert [record.text for record in bench.journal.records("acme", "f")] == ["llm.infer parrot: ok"]


@pytest.mark.parametrize(
    "error", [msgspec.ValidationError("no number"), ConnectionResetError("gone"), ValueError("bug")], ids=type
)
def test_no_foreign_exception_leaves_a_host_call(bench, refusal, caplog, error: Exception) -> None:
    bench.answers.errors["broken"] = error
    assert refusal(bench.host(EVERYTHING), "llm.infer", "parrot", "broken") == (Code.UNAVAILABLE, "llm.infer failed")
    assert "host call llm.infer of f@3 (tenant acme) failed" in caplog.text
    assert str(error) in caplog.text
    assert bench.counted("llm.infer", "unavailable") == 1


def test_reading_is_not_audited(bench, ask) -> None:
    host = bench.host(EVERYTHING, variables={"v": "x"})
    ask(host, "kv.get", "default", "k")
    ask(host, "kv.exists", "default", "k")
    ask(host, "var.get", "v")
    ask(host, "cache.lookup", "m", "q")
    assert bench.journal.records("acme", "f") == []


class Tape(NoHost):
    """Answers `body.*`."""

    def call(self, op: str, argument: bytes) -> bytes:
        return b"=" + pack(op.encode(), argument)


def test_streamed_bodies_cost_no_budget(bench) -> None:
    host = bench.host(stream=Tape(), host_calls=0, host_bytes=0)
    for op in STREAMING:
        assert result(host.call(op, b"x")) == [op.encode(), b"x"]
    assert host.budget.calls == 0


def test_a_request_that_does_not_stream_refuses_them(bench, refusal) -> None:
    for op in STREAMING:
        assert refusal(bench.host(EVERYTHING), op)[0] is Code.DENIED


def test_calls_share_nothing_but_the_version(bench, ask) -> None:
    first, second = bench.host(host_calls=1), bench.host(host_calls=1)
    ask(first, "log", "info", "x")
    ask(second, "log", "info", "x")
    assert first.budget is not second.budget
