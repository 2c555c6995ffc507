"""Every example of wasm_functions: its cases pass, and its artefact is what its source builds to."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from edgecache.clock import SystemClock
from edgecache.config import Functions
from edgecache.workshop import cases, project, trial
from edgecache.workshop.building import build
from edgecache.workshop.local import Local

ROOT = Path(__file__).parents[2] / "wasm_functions"
EXAMPLES = sorted(path.parent.name for path in ROOT.glob("*/function.toml"))
TWO_LANGUAGES_OF_ZIG = ("redact-pii", "translate-units")
"""What the compiler in requirements/dev.txt can build: C and Zig."""


def test_there_are_examples_in_at_least_four_languages() -> None:
    found = {path.suffix for name in EXAMPLES for path in (ROOT / name).rglob("*") if "node_modules" not in path.parts}
    assert found >= {".js", ".c", ".zig", ".ts", ".rs"}
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_source_cases_readme_and_artefact(name: str) -> None:
    found = project.find(ROOT / name)
    assert found.manifest.name == name
    assert found.manifest.description
    assert found.artefact.is_file()
    assert (ROOT / name / "README.md").read_text().startswith(f"# {name}\n")
    assert len(cases.read(found.cases)) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
async def test_the_cases_of_an_example_pass(name: str) -> None:
    found = project.find(ROOT / name)
    with Local(found, Functions(), SystemClock()) as local:
        ready = await local.ready(await asyncio.to_thread(found.read))
        for case in cases.read(found.cases):
            result = await trial.run(case, ready, local)
            assert result.passed, (case.name, result.differences, result.log)


@pytest.mark.slow
@pytest.mark.parametrize("name", TWO_LANGUAGES_OF_ZIG)
def test_the_artefact_is_what_the_source_builds_to(name: str, tmp_path: Path) -> None:
    copied = tmp_path / name
    subprocess.run(["cp", "-r", str(ROOT / name), str(copied)], check=True)
    committed = (ROOT / name / "function.wasm").read_bytes()
    (copied / "function.wasm").unlink()
    build(project.find(copied), {"PATH": os.defpath, "HOME": str(tmp_path)}, SystemClock())
    assert (copied / "function.wasm").read_bytes() == committed


@pytest.mark.parametrize(
    ("helper", "template"),
    [
        ("redact-pii/edgecache.h", "c/edgecache.h"),
        ("translate-units/edgecache.zig", "zig/edgecache.zig"),
        ("geo-compliance/src/edgecache.rs", "rust/src/edgecache.rs"),
        ("npc-dialogue/assembly/edgecache.ts", "assemblyscript/assembly/edgecache.ts"),
    ],
)
def test_what_examples_build_upon_is_what_starters_get(helper: str, template: str) -> None:
    """A function's folder stands alone, so each has a copy; they must not drift apart."""
    templates = ROOT.parent / "edgecache" / "workshop" / "templates"
    assert (ROOT / helper).read_bytes() == (templates / template).read_bytes()
