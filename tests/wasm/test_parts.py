"""Bodies in parts, for functions that know of none."""

import pytest

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm.base import Limits, unpack
from edgecache.wasm.hostcalls import Code, answered, refused
from edgecache.wasm.module import Module
from edgecache.wasm.parts import in_parts
from tests.wasm.conftest import LIMITS, Scripted, request


@pytest.fixture
def live(engine, compiled):
    """Runs `in_parts` with given parts and answers; gives the response and what the host was told."""
    module = Module(engine, compiled("(module)"), {})

    def live(parts, answers, *, reads=True, writes=True, body=b"whole", limits=LIMITS, refuse=""):
        left, given, handled = list(parts), list(answers), []

        def answer(op, _argument) -> bytes:
            if op == refuse:
                return refused(Code.UNAVAILABLE, "the client has gone")
            return answered(*([left.pop(0)] if left else [])) if op == "body.read" else answered()

        def handle(_sandbox, part):
            handled.append(part)
            return given.pop(0)

        host = Scripted(answer)
        with module.open(request(body, reads=reads, writes=writes), limits, host) as sandbox:
            found = in_parts(sandbox, handle)
        told = [(op, unpack(argument)) for op, argument in host.asked if op != "body.read"]
        return found, told, handled

    return live


OK = (("x-a", "b"),)


def test_parts_go_through_one_by_one(live) -> None:
    found, told, handled = live([b"1", b"2"], [(200, OK, b"one"), (200, (), b"two")])
    assert handled == [b"1", b"2"]
    assert told == [("body.head", [b"200", b"x-a", b"b"]), ("body.write", [b"one"]), ("body.write", [b"two"])]
    assert (found.status, found.headers, found.body) == (200, OK, b"")
    assert found.usage.host_calls == 6


def test_204_leaves_a_part_as_it_is(live) -> None:
    found, told, _ = live([b"1", b"2", b"3"], [(204, OK, b""), (200, (), b"two"), (204, (), b"")])
    assert told == [
        ("body.head", [b"200", b"x-a", b"b"]),
        ("body.write", [b"1"]),
        ("body.write", [b"two"]),
        ("body.write", [b"3"]),
    ]
    assert found.status == 200


def test_an_empty_part_of_an_answer_is_not_written(live) -> None:
    _, told, _ = live([b"1"], [(200, (), b"")])
    assert told == [("body.head", [b"200"])]


def test_without_writes_the_parts_are_put_together(live) -> None:
    found, told, _ = live([b"1", b"2"], [(204, OK, b""), (200, (), b"two")], writes=False)
    assert told == []
    assert (found.status, found.headers, found.body) == (200, OK, b"1two")


def test_when_nothing_came_of_any_part_the_whole_is_204(live) -> None:
    found, _, _ = live([b"1", b"2"], [(204, OK, b""), (204, (), b"")], writes=False)
    assert (found.status, found.headers, found.body) == (204, OK, b"")


def test_without_reads_the_body_is_the_one_part(live) -> None:
    found, told, handled = live([], [(200, (), b"x")], reads=False)
    assert handled == [b"whole"]
    assert told == [("body.head", [b"200"]), ("body.write", [b"x"])]
    assert found.body == b""


def test_a_body_without_parts_is_handled_once(live) -> None:
    found, _, handled = live([], [(200, (), b"x")], writes=False)
    assert handled == [b""]
    assert found.body == b"x"


def test_another_status_ends_the_answer(live) -> None:
    found, told, handled = live([b"1", b"2"], [(403, (), b"no")])
    assert handled == [b"1"]
    assert told == [("body.head", [b"403"]), ("body.write", [b"no"])]
    assert found.status == 403


def test_another_status_after_the_head_is_a_fault(live) -> None:
    with pytest.raises(FunctionFault, match="answered 500 to a part after the first") as fault:
        live([b"1", b"2"], [(200, (), b""), (500, (), b"no")])
    assert fault.value.fault == Fault.ANSWER


def test_all_parts_together_are_no_larger_than_an_answer_may_be(live) -> None:
    with pytest.raises(FunctionFault, match="answered 12 bytes, 2 more") as fault:
        live([b"1", b"2"], [(200, (), b"x" * 6)] * 2, limits=Limits(response=10))
    assert fault.value.fault == Fault.SIZE


@pytest.mark.parametrize("op", ["body.read", "body.head", "body.write"])
def test_a_host_that_refuses_ends_it(live, op) -> None:
    with pytest.raises(FunctionFault, match=f"{op} was refused: the client has gone"):
        live([b"1"], [(200, (), b"x")], refuse=op)
