import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from edgecache.clock import ManualClock
from edgecache.quality import compare
from edgecache.quality.compare import Options
from edgecache.quality.kit import Kit

plots = pytest.importorskip("edgecache.quality.plots", exc_type=ImportError)


@pytest.mark.slow
def test_every_section_has_its_figure_as_svg_and_png(kit: Kit, folder: Path, tmp_path: Path) -> None:
    options = Options(data=folder, cache=tmp_path, orders=0, outside=(), sizes=(5, 20), fill_requests=40, fill_seeds=1)
    result = compare.run(options, kit, ManualClock())
    row = {"budget": 0.01, "observed": [0.001, 0.02]}
    drawn = plots.draw(result | {"orders": {"stream_repeat": [row, row]}})
    kinds = {f"stream_{name}-{kind}" for name in ("repeat", "paraphrase") for kind in ("tradeoff", "tiers", "course")}
    assert set(drawn) == kinds | {"pairs-roc", "pairs-precision", "entries", "orders"}
    for svg, png in drawn.values():
        assert ET.fromstring(svg).tag.endswith("svg")  # noqa: S314 - our own
        assert png.startswith(b"\x89PNG")
        assert "@import" not in svg
        assert 'href="http' not in svg


def test_nothing_found_nothing_drawn() -> None:
    assert plots.draw({}) == {}
