from typing import Any

import pytest

from edgecache.cli import fn_show


def test_tables_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    report = {
        "name": "greet",
        "split": {"stable": 1, "canary": None},
        "manifest": {"name": "greet"},
        "stats": {"1": {"calls": 3, "outcomes": {"ok": 2, "cpu": 1}}},
        "active": [{"number": 1, "digest": "0123456789abcdef", "cpu": 0.1}, {"number": 2, "created": 0.0}],
        "empty": [],
    }
    fn_show.show(report, as_json=False)
    said = capsys.readouterr().out
    assert said.startswith("name\tgreet\nsplit.stable\t1\nsplit.canary\t-\nempty\t[]\nnumber\tdigest\tcreated\n")
    assert "1\t0123456789ab\t-\n" in said
    assert "19" in said.splitlines()[-3]  # the year of 0
    assert "version\tcalls\toutcomes\n1\t3\tok 2, cpu 1\n" in said


@pytest.mark.slow
async def test_every_report_is_there(developer: Any) -> None:
    await developer.here("deploy", "-m", "first")
    assert [each["name"] for each in (await developer.told("list"))["functions"]] == ["greet"]
    (version,) = (await developer.here("versions"))["versions"]
    assert (version["number"], version["message"]) == (1, "first")
    assert (await developer.here("status"))["split"]["stable"] == 1
    assert {each["name"] for each in (await developer.here("limits"))["limits"]} >= {"cpu_ms", "kv"}
    assert (await developer.here("stats"))["stats"]["1"]["calls"] == 0
    for command in ("versions", "status", "limits", "stats"):
        result = await developer.run(command, "--name", "greet")
        assert result.exit_code == 0, command
        assert result.stdout, command
