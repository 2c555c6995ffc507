"""Every module has its test file, and every test file its module."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "edgecache"
TESTS = ROOT / "tests"
NOT_MIRRORED = {"repo", "e2e", "models", "adapter", "spin", "wasm_functions"}
"""Folders of tests that are about the whole (its rules, the daemon as a process), about what trains the models, or
about what is not Python: the adapter component, and apps of Spin."""


def modules() -> list[Path]:
    found = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
    return sorted(path for path in found if path.name not in {"__init__.py", "__main__.py"})


def files_of_tests() -> list[Path]:
    found = (path.relative_to(TESTS) for path in TESTS.rglob("test_*.py"))
    return sorted(path for path in found if path.parts[0] not in NOT_MIRRORED)


@pytest.mark.parametrize("module", modules(), ids=str)
def test_a_module_has_its_test_file(module: Path) -> None:
    expected = TESTS / module.parent / f"test_{module.name}"
    assert expected.exists(), f"{module} has no {expected.relative_to(ROOT)}"


@pytest.mark.parametrize("path", files_of_tests(), ids=str)
def test_a_test_file_has_its_module(path: Path) -> None:
    assert (PACKAGE / path.parent / path.name.removeprefix("test_")).exists()
