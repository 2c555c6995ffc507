import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from edgecache.cli import main
from edgecache.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_core_runs_by_itself_until_told_to_stop() -> None:
    command = [sys.executable, "-m", "edgecache", "sim", "core", "--listen", "127.0.0.1:0", "--json"]
    options = ["--model", "m1", "--model", "m2", "--lora", "l1", "--dialect", "vllm", "--time-to-first-token", "0"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        facts = ""
        while not facts.endswith("}\n"):
            line = process.stdout.readline()
            assert line, "ended early"
            facts += line
        told = json.loads(facts)
        assert told["models"] == ["m1", "m2"]
        assert told["dialect"] == "vllm"
        models = httpx.get(told["url"] + "/v1/models").json()
        assert {each["id"] for each in models["data"]} == {"m1", "m2", "l1"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_a_bad_address_or_setting_is_refused() -> None:
    for options in (
        ["--listen", "nowhere"],
        ["--dialect", "cobol"],
        ["--time-to-first-token", "-1"],
        ["--prefill-time-per-token", "-1"],
        ["--time-factor", "0"],
        ["--time-factor-under-load", "0.5"],
        ["--max-waiting-queue-length", "0"],
        ["--failure-type", "tantrum"],
    ):
        assert isinstance(CliRunner().invoke(main.app, ["sim", "core", *options]).exception, ConfigError)
