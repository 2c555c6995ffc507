from pathlib import Path

import pytest

from edgecache.errors import EdgeCacheError, Fault
from edgecache.functions.manifest import Phase
from edgecache.workshop import cases

LINE = '{"name": "a", "phase": "key", "request": {"body": {"x": 1}}, "expect": {"fault": "cpu"}}'


def test_a_line_is_a_case() -> None:
    (case,) = cases.parse(f"// a remark\n\n{LINE}\n", "f")
    assert (case.name, case.phase, case.expect.fault) == ("a", Phase.KEY, Fault.CPU)
    assert case.request.raw() == b'{"x":1}'


def test_what_is_left_out_has_a_default() -> None:
    (case,) = cases.parse('{"name": "a", "expect": {}}', "f")
    assert (case.phase, case.request.method, case.request.path) == (Phase.HIT, "POST", "/v1/chat/completions")
    assert case.request.raw() == b""


def test_bodies_are_texts_or_json() -> None:
    (case,) = cases.parse('{"name": "a", "expect": {}, "fetch": [{"url": "http://a", "body": [1]}]}', "f")
    assert case.fetch[0].raw() == b"[1]"
    (case,) = cases.parse('{"name": "a", "expect": {}, "request": {"body": "é"}}', "f")
    assert case.request.raw() == "é".encode()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "f:1: "),
        ('\n{"name": "a"}', "f:2: Object missing required field `expect`"),
        ('{"name": "a", "expect": {"stats": 200}}', "unknown field `stats`"),
        ('{"name": "a", "expect": {}, "phase": "hits"}', r"\$\.phase"),
        (f"{LINE}\n{LINE}", "f:2: there are two cases called 'a'"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, says: str) -> None:
    with pytest.raises(EdgeCacheError, match=says):
        cases.parse(text, "f")


@pytest.mark.parametrize(("content", "says"), [(b"", "holds no case"), (b"\xff", "not UTF-8"), (None, "No such file")])
def test_a_file_that_cannot_be_used_is_an_error(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "cases.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(EdgeCacheError, match=says):
        cases.read(file)


def test_every_field_is_described() -> None:
    text = cases.__doc__ or ""
    for kind in (cases.Case, cases.Asked, cases.Expected):
        for field in kind.__struct_fields__:
            assert field in text, field
