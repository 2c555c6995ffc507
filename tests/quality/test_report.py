import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from edgecache.clock import ManualClock
from edgecache.quality import compare, report
from edgecache.quality.compare import Options
from edgecache.quality.kit import Kit

SVG = '<svg xmlns="http://www.w3.org/2000/svg"><g/></svg>'


class Reader(HTMLParser):
    """Collects what a page would load, and its tables' cells."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href", "data", "action"}]
        if tag not in {"meta", "br", "path", "use"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def result(kit: Kit, folder: Path, tmp_path: Path) -> dict[str, Any]:
    options = Options(data=folder, cache=tmp_path, orders=0, outside=(), sizes=(5, 20), fill_requests=40, fill_seeds=1)
    return compare.run(options, kit, ManualClock())


def test_the_page_is_whole_and_loads_nothing(result: dict[str, Any]) -> None:
    result["streams"]["stream_repeat"]["columns"].append({"name": "peer <b>", "error": "pip & co"})
    page = report.html(result, {"stream_repeat-tradeoff": (SVG, b"")})
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert [each for each in reader.loads if not each.startswith("#")] == []
    assert not re.search(r"url\(|@import|<script", page)
    assert SVG in page
    assert "peer &lt;b&gt;" in page
    assert "did not run: pip &amp; co" in page
    for section in (
        "What it must reach",
        "stream_paraphrase",
        "Errors against entries",
        "Pairs",
        "Data",
        "Environment",
    ):
        assert section in page


def test_files_are_written(result: dict[str, Any], tmp_path: Path) -> None:
    page = report.write(result, {"a": (SVG, b"png")}, tmp_path / "out")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["table"] == result["table"]
    assert (tmp_path / "out" / "a.png").read_bytes() == b"png"


def test_tables_take_columns_as_they_come_and_escape() -> None:
    made = report.table([{"a": 1, "b": "<"}, {"c": True, "a": None}])
    assert re.findall(r"<th>(.*?)</th>", made) == ["a", "b", "c"]
    assert "&lt;" in made
    assert '<td class="yes">yes</td>' in made


def test_a_share_is_shown_with_its_interval() -> None:
    assert report.nested({"rate": 0.5, "low": 0.25, "high": 0.75}) == "50.00% [25.00%, 75.00%]"
    assert "<table>" in report.nested({"x": {"rate": 0.5, "low": 0.25, "high": 0.75}, "y": [1, 2]})
