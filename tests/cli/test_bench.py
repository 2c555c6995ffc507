from pathlib import Path

from typer.testing import CliRunner

from edgecache.cli import main
from edgecache.errors import EdgeCacheError


def test_data_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(main.app, ["bench", "replay", "--data", str(tmp_path / "absent.jsonl")])
    assert type(result.exception) is EdgeCacheError


def test_options_out_of_bounds_are_wrong_usage(tmp_path: Path) -> None:
    for option in (["--stream-share", "2"], ["--limit", "0"], ["--concurrency", "0"], []):
        data = ["--data", str(tmp_path)] if option else []
        assert CliRunner().invoke(main.app, ["bench", "replay", *data, *option]).exit_code == 2
