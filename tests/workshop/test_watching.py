from pathlib import Path

import pytest

from edgecache.workshop import project, watching


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "function.toml").write_text('name = "greet"\n')
    (tmp_path / "function.c").write_text("1")
    return tmp_path


def look(folder: Path) -> watching.Seen:
    return watching.look(project.find(folder))


def test_files_written_added_and_removed_are_seen(folder: Path) -> None:
    before = look(folder)
    assert watching.changed(before, look(folder)) == ()
    (folder / "function.c").write_text("22")
    (folder / "new.c").write_text("")
    after = look(folder)
    assert watching.changed(before, after) == (folder / "function.c", folder / "new.c")
    (folder / "new.c").unlink()
    assert watching.changed(after, look(folder)) == (folder / "new.c",)


def test_what_tools_write_is_no_source(folder: Path) -> None:
    (folder / "function.toml").write_text('name = "greet"\n[build]\ncommand = "make"\n')
    before = look(folder)
    for name in (".edgecache/hits.jsonl", "node_modules/a/b.js", "target/x", "function.wasm"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    assert watching.changed(before, look(folder)) == ()


def test_only_what_the_manifest_names_and_the_manifest_are_watched(folder: Path) -> None:
    (folder / "function.toml").write_text('name = "greet"\n[build]\ncommand = "make"\nwatch = ["src", "absent"]\n')
    (folder / "src").mkdir()
    (folder / "src" / "a.rs").write_text("")
    assert sorted(look(folder)) == [folder / "function.toml", folder / "src" / "a.rs"]


def test_an_artefact_that_is_not_built_is_a_source(folder: Path) -> None:
    (folder / "function.toml").write_text('name = "greet"\n[build]\nartefact = "a.js"\nwatch = ["function.c"]\n')
    (folder / "a.js").write_text("")
    assert folder / "a.js" in look(folder)


def test_links_are_not_followed(folder: Path) -> None:
    (folder / "round").symlink_to(folder)
    assert sorted(look(folder)) == [folder / "function.c", folder / "function.toml"]
