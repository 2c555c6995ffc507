"""How host calls are framed."""

import re
from pathlib import Path

import pytest

from edgecache.wasm import hostcalls
from edgecache.wasm.base import NoHost
from edgecache.wasm.hostcalls import Code, HostRefused, answered, refused, result


def test_an_answer_carries_fields() -> None:
    assert answered() == b"="
    assert result(answered()) == []
    assert result(answered(b"200", b"", b"\0,:\xff")) == [b"200", b"", b"\0,:\xff"]


@pytest.mark.parametrize("code", list(Code))
def test_a_refusal_carries_code_and_message(code) -> None:
    with pytest.raises(HostRefused, match="why\nand more") as raised:
        result(refused(code, "why\nand more"))
    assert raised.value.code is code
    assert raised.value.message == "why\nand more"


def test_no_host_refuses_as_the_others_do() -> None:
    with pytest.raises(HostRefused) as raised:
        result(NoHost().call("fetch", b""))
    assert raised.value.code is Code.DENIED
    assert raised.value.message == "fetch is not granted to this function"


@pytest.mark.parametrize("answer", [b"", b"1:a,", b"?x", b"!nonsense\nx", b"=1:a", b"!denied\n\xff"])
def test_what_is_no_answer(answer) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        result(answer)


def test_the_table_lists_each_operation_once() -> None:
    names = re.findall(r"^\| `([a-z.]+)` \|", Path(hostcalls.__file__).read_text(), re.MULTILINE)
    assert len(names) == len(set(names)) == 17
