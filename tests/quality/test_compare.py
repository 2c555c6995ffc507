import json
from pathlib import Path

import pytest

from edgecache.clock import ManualClock
from edgecache.errors import ConfigError
from edgecache.quality import compare
from edgecache.quality.compare import Options
from edgecache.quality.kit import Kit

SMALL = {"orders": 0, "outside": (), "sizes": (5, 20), "fill_requests": 40, "fill_seeds": 1}


def test_one_run_fills_every_section_and_the_table(kit: Kit, folder: Path, tmp_path: Path) -> None:
    found = compare.run(Options(data=folder, cache=tmp_path, **SMALL), kit, ManualClock())
    json.dumps(found)
    assert set(found["streams"]) == {"stream_paraphrase", "stream_repeat"}
    assert set(found["pairs"]["sets"]) == {"qqp", "mrpc", "checklist"}
    assert [each["entries"] for each in found["entries"]["rows"][0]["sizes"]] == [5, 20]
    assert found["environment"]["models"]["verifier"] == "shared-words:1"
    measures = " ".join(row["measure"] for row in found["table"])
    for word in ("stream_paraphrase", "stream_repeat", "AUC", "recall", "CheckList", "growth", "verifier"):
        assert word in measures
    assert "where can i buy" not in json.dumps(found), "a report must not carry the questions"


def test_a_limit_holds_for_every_stream(kit: Kit, folder: Path, tmp_path: Path) -> None:
    found = compare.run(Options(data=folder, cache=tmp_path, limit=50, **SMALL), kit, ManualClock())
    assert {each["about"]["requests"] for each in found["streams"].values()} == {50}


def test_peers_that_cannot_run_are_columns_that_say_so(kit: Kit, folder: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "absent"
    options = Options(data=folder, cache=tmp_path, vcache=checkout, peers_home=tmp_path / "f", limit=20, **SMALL)
    (tmp_path / "f").write_text("a file where environments should go")
    columns = compare.run(options, kit, ManualClock())["streams"]["stream_repeat"]["columns"]
    assert [each["name"] for each in columns if "error" in each] == [
        f"vcache's own code, delta {delta:.0%}" for delta in (0.01, 0.02, 0.05)
    ]
    assert all("environment" in each["error"] for each in columns if "error" in each)


def test_without_a_verifier_there_is_nothing_to_compare(bare: Kit, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="verifier"):
        compare.run(Options(data=folder, cache=tmp_path, **SMALL), bare, ManualClock())


def test_a_folder_without_streams_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no stream_"):
        compare.load(tmp_path)


def test_streams_alone_are_enough(kit: Kit, folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "stream_other.jsonl.gz").write_bytes((folder / "stream_repeat.jsonl.gz").read_bytes())
    found = compare.run(Options(data=alone, cache=tmp_path, **SMALL), kit, ManualClock())
    assert set(found["streams"]) == {"stream_other"}
    assert found["pairs"] is None
    assert found["entries"] is None
