from pathlib import Path

from edgecache.functions.manifest import Phase
from edgecache.wasm.base import Request, Response
from edgecache.workshop import hits
from edgecache.workshop.hits import Hits

HEADERS = (("x-user", "Ada"), ("x-edgecache-request-id", "1"))


def request(body: bytes = b"{}", number: str = "1", **more: bool) -> Request:
    headers = (HEADERS[0], ("x-edgecache-request-id", number))
    return Request("POST", "/v1", headers, body, 5, bytes(32), **more)


def hit(body: bytes = b"{}", answer: bytes = b"a", number: str = "1") -> hits.Hit:
    made = hits.of(Phase.HIT, request(body, number), Response(200, (("x-a", "1"),), answer))
    assert made is not None
    return made


def test_a_call_can_be_made_again_as_it_was(tmp_path: Path) -> None:
    kept = Hits(tmp_path / "deep" / "hits.jsonl")
    kept.add(hit("é".encode()))
    kept.save()
    (again,) = Hits(tmp_path / "deep" / "hits.jsonl").all()
    assert again.request == request("é".encode())
    assert (again.status, again.answer) == (200, "a")
    assert again.title == "hit /v1 x-user=Ada"


def test_the_same_call_is_kept_once_with_its_latest_answer(tmp_path: Path) -> None:
    kept = Hits(tmp_path / "hits.jsonl")
    kept.add(hit(answer=b"old", number="1"))
    kept.add(hit(answer=b"new", number="2"))
    assert [each.answer for each in kept.all()] == ["new"]


def test_the_oldest_go(tmp_path: Path) -> None:
    kept = Hits(tmp_path / "hits.jsonl")
    for number in range(60):
        kept.add(hit(b"%d" % number))
    assert [each.body for each in kept.all()] == [str(number) for number in range(10, 60)]


def test_what_cannot_be_made_again_is_not_kept() -> None:
    assert hits.of(Phase.HIT, request(b"\xff"), None) is None
    assert hits.of(Phase.HIT, request(b"x" * 300_000), None) is None
    assert hits.of(Phase.ROUTE, request(reads=True), None) is None


def test_what_changed_is_shown() -> None:
    before = hit()
    assert hits.differences(before, hits.answered(before, Response(200, (("x-a", "1"),), b"a"))) == []
    after = hits.answered(before, Response(204, (("x-b", "2"),), b"b"))
    assert hits.differences(before, after) == [
        "status: 200 -> 204", "header x-a: 1 -> -", "header x-b: - -> 2", 'body: - "a"', 'body: + "b"',
    ]  # fmt: skip
    failed = hits.answered(before, None, "cpu: 20 ms")
    assert hits.differences(before, failed)[0] == "fault: none -> cpu: 20 ms"


def test_lines_of_another_release_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "hits.jsonl"
    file.write_text('{"phase": "gone"}\nnonsense\n')
    assert Hits(file).all() == ()
