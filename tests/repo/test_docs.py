"""The documentation cannot lag: routes, commands and files it names exist, and the README's commands run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PATHS_NAMED = re.compile(
    r"`((?:edgecache/)?(?:cache|cli|config|embed|http|pipeline|router|sim|store|telemetry|upstream|wire)/[\w/]+\.py)`"
)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", DOCS, ids=name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{name(page)} links to {target}"


@pytest.mark.parametrize("page", DOCS, ids=name)
def test_every_module_that_is_named_exists(page: Path) -> None:
    for named in PATHS_NAMED.findall(page.read_text().replace("NOUN", "cache")):
        assert (ROOT / "edgecache" / named.removeprefix("edgecache/")).exists(), f"{name(page)} names {named}"


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert numbers == list(range(1, len(numbers) + 1))
