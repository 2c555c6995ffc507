from pathlib import Path

import pytest

from edgecache.errors import EdgeCacheError, FunctionRefused
from edgecache.functions.manifest import Phase
from edgecache.workshop import cases, project, templates

LANGUAGES = [each.language for each in templates.TEMPLATES]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_starter_is_a_sound_function_with_cases_and_a_readme(tmp_path: Path, language: str) -> None:
    written = templates.make("greet-all", language, tmp_path / "new")
    found = project.find(tmp_path / "new")
    assert found.name == "greet-all"
    assert {bind.phase for bind in found.manifest.bind} == {Phase.HIT, Phase.RESPONSE}
    assert len(cases.read(found.cases)) >= 4
    assert (tmp_path / "new" / "README.md").read_text().startswith("# greet-all\n")
    assert not any("my-function" in file.read_text() or file.suffix == ".template" for file in written)
    for source in found.manifest.build.watch:
        assert (tmp_path / "new" / source).exists()


def test_a_plain_script_needs_no_build(tmp_path: Path) -> None:
    templates.make("greet", "js", tmp_path)
    found = project.find(tmp_path)
    assert found.manifest.build.command == ""
    assert b"export default" in found.read()


@pytest.mark.parametrize("name", ["../up", "Greet", "a_b", "", "-a", "x" * 64, "a/b"])
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FunctionRefused, match="cannot be a function's name"):
        templates.make(name, "js", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_unknown_language_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(FunctionRefused, match=r"'cobol'; there are: js, python, rust, c, zig, assemblyscript"):
        templates.make("greet", "cobol", tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(EdgeCacheError, match="is not empty"):
        templates.make("greet", "js", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["precious"]


def test_every_folder_of_starters_is_listed() -> None:
    folders = {path.name for path in (Path(templates.__file__).parent / "templates").iterdir()}
    assert folders == {*LANGUAGES, "common"}
