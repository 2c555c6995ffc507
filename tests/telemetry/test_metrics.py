import re
from pathlib import Path

from edgecache import __version__
from edgecache.telemetry.metrics import Metrics
from edgecache.telemetry.trace import STAGES

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"


def names() -> set[str]:
    families = (family.name for family in Metrics().registry.collect())
    return {name for name in families if name.startswith("edgecache_")}


def test_every_metric_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"^\| `(edgecache_\w+?)(?:_total)?[`{]", DOCS.read_text(), flags=re.MULTILINE))
    assert names() == documented


def test_the_stage_names_are_documented() -> None:
    text = DOCS.read_text()
    assert [stage for stage in STAGES if f"`{stage}`" not in text] == []


def test_the_exposition_names_the_version() -> None:
    assert f'edgecache_build_info{{version="{__version__}"}} 1.0' in Metrics().render().decode()


def test_two_daemons_in_one_process_do_not_share_counters() -> None:
    one, two = Metrics(), Metrics()
    one.collapsed.inc()
    assert b"edgecache_collapsed_requests_total 1.0" in one.render()
    assert b"edgecache_collapsed_requests_total 0.0" in two.render()
