"""Starters: one small, useful function in each language, ready to build, test and deploy.

All do the same, so `templates/common/cases.jsonl` holds for each of them. A starter is itself a sound function called
`my-function`; that name is all that `make` replaces. `.template` ends the names of files that tools would take for a
part of this package.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from edgecache.errors import EdgeCacheError, FunctionRefused
from edgecache.functions.manifest import NAME

_FOLDER = Path(__file__).parent / "templates"
_COMMON = "common"
_PLACEHOLDER = "my-function"
_SUFFIX = ".template"
_IGNORED = ".edgecache/\n.venv/\n__pycache__/\nnode_modules/\ntarget/\n*.wasm\n"
"""The `.gitignore` of a new function."""


@dataclass(frozen=True, slots=True)
class Template:
    """One starter: its language, what it becomes, what is needed to build it, what a call costs."""

    language: str
    kind: str
    needs: str
    call: str


TEMPLATES = (
    Template("js", "script", "nothing", "0.3 ms"),
    Template("python", "component", "Python 3.10+", "2 ms"),
    Template("rust", "core", "cargo, target wasm32-unknown-unknown", "50 us"),
    Template("c", "core", "zig (pip install ziglang), or clang and lld", "30 us"),
    Template("zig", "core", "zig (pip install ziglang)", "35 us"),
    Template("assemblyscript", "core", "Node.js 20+", "25 us"),
)


def make(name: str, language: str, folder: Path) -> tuple[Path, ...]:
    """Write the starter of `language` for a function called `name` into `folder`; the files written.

    Raises:
        FunctionRefused: the name cannot be one, or there is no such starter.
        EdgeCacheError: `folder` holds something already, or cannot be written.
    """
    if not re.fullmatch(NAME, name):
        raise FunctionRefused(
            f"{name!r} cannot be a function's name: 1 to 63 of a-z, 0-9 and -, not beginning or ending with -",
            code="name",
        )
    if language not in {template.language for template in TEMPLATES}:
        known = ", ".join(template.language for template in TEMPLATES)
        raise FunctionRefused(f"no template for {language!r}; there are: {known}", code="template")
    try:
        if folder.exists() and any(folder.iterdir()):
            raise EdgeCacheError(f"{folder}: is not empty; choose another name, or another folder with --dir")
        return tuple(_write(folder / place, text.replace(_PLACEHOLDER, name)) for place, text in files(language))
    except OSError as error:
        raise EdgeCacheError(f"{folder}: {error.strerror}") from error


def files(language: str) -> tuple[tuple[str, str], ...]:
    """Path and text of every file of a starter."""
    found = [(".gitignore", _IGNORED)]
    for root in (_FOLDER / _COMMON, _FOLDER / language):
        for file in sorted(path for path in root.rglob("*") if path.is_file()):
            place = file.relative_to(root).as_posix().removesuffix(_SUFFIX)
            found.append((place, file.read_text(encoding="utf-8")))
    return tuple(found)


def _write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file
