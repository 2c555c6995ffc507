from pathlib import Path
from typing import Any

import pytest

from edgecache.clock import SystemClock
from edgecache.config import Functions
from edgecache.errors import FunctionRefused
from edgecache.wasm.base import Kind
from edgecache.workshop import measuring, project
from edgecache.workshop.local import Local


@pytest.mark.slow
async def test_what_did_not_change_is_compiled_once(tmp_path: Path, probe: Any) -> None:
    (tmp_path / "function.toml").write_text('name = "loop"\n')
    with Local(project.find(tmp_path), Functions(), SystemClock()) as local:
        first = await local.ready(measuring.LOOP)
        again = await local.ready(measuring.LOOP)
        assert first.artefact.kind is Kind.CORE
        assert again.artefact.sealed == first.artefact.sealed
        assert again.compiled < first.compiled
    assert (tmp_path / ".edgecache" / "code").is_dir()


@pytest.mark.slow
async def test_only_the_latest_build_is_kept(tmp_path: Path) -> None:
    (tmp_path / "function.toml").write_text('name = "loop"\n')
    with Local(project.find(tmp_path), Functions(), SystemClock()) as local:
        before = await local.ready(measuring.LOOP)
        after = await local.ready(measuring.LOOP + b"\x00\x02\x01x")  # a custom section
        assert not before.artefact.code.exists()
        await local.ready(measuring.LOOP, keep=False)
        assert after.artefact.code.exists()


@pytest.mark.slow
async def test_what_a_pop_refuses_is_refused(tmp_path: Path) -> None:
    (tmp_path / "function.toml").write_text('name = "loop"\n')
    with (
        Local(project.find(tmp_path), Functions(max_artefact_bytes=10), SystemClock()) as local,
        pytest.raises(FunctionRefused, match="at most 10"),
    ):
        await local.ready(measuring.LOOP)


@pytest.mark.slow
async def test_the_folder_may_be_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("function.toml").write_text('name = "loop"\n')
    with Local(project.find(Path()), Functions(), SystemClock()) as local:
        assert (await local.ready(measuring.LOOP)).artefact.code.is_absolute()
