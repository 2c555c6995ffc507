import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest

from edgecache.cli import serve
from edgecache.config import Auth, AuthTenant, Config, Router, Upstream, load
from edgecache.daemon import Summary
from edgecache.errors import ConfigError

ROOT = Path(__file__).parents[2]
CLUSTER = Upstream(name="trt", url="http://127.0.0.1:1", dialect="trtllm", models=("m",), api_key="sk-hush")


def summary(*upstreams: Upstream, core_url: str | None = None, cache: str = "") -> Summary:
    return Summary(
        url="http://127.0.0.1:8080",
        admin_url="http://127.0.0.1:8081",
        data="data",
        embedder="hashing",
        device="cpu",
        precision="fp32",
        upstreams=upstreams,
        core_url=core_url,
        hits="budget 0.5 % wrong per request",
        functions="2 deployed",
        cache=cache,
    )


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_a_base_url_may_be_written_as_clients_write_it(url: str) -> None:
    assert serve.base_url(url) == "http://h:1"


def test_the_core_stands_in_only_where_nothing_is_configured() -> None:
    nothing = load(file=None, environment={}, overrides={})
    (upstream,) = serve.with_core(nothing, "http://127.0.0.1:9").config.upstream
    assert (upstream.name, upstream.dialect, upstream.models) == ("embedded-core", "trtllm", ("edge-test",))
    configured = load(file=None, environment={}, overrides={"upstream": [{"name": "a", "url": "http://a"}]})
    assert serve.with_core(configured, None) == configured
    with pytest.raises(ConfigError, match="none left"):
        serve.with_core(nothing, None)


def test_the_core_does_not_stand_in_where_upstreams_are_discovered() -> None:
    found = load(file=None, environment={}, overrides={"router": {"discovery": "found.json"}})
    assert serve.with_core(found, None) == found
    told = serve.facts(summary(), found.config)
    assert told["upstream"] == "those that found.json names"


def test_a_core_that_runs_stays_until_the_restart_that_discovery_takes() -> None:
    found = load(file=None, environment={}, overrides={"router": {"discovery": "found.json"}})
    assert [each.name for each in serve.with_core(found, "http://127.0.0.1:9").config.upstream] == ["embedded-core"]


async def test_no_core_is_started_where_upstreams_are_discovered() -> None:
    async with serve.embedded_core(Config(router=Router(discovery="found.json"))) as url:
        assert url is None
    async with serve.embedded_core(Config()) as url:
        assert url is not None


def test_the_start_says_plainly_what_answers_misses() -> None:
    core = Upstream(name="embedded-core", url="http://127.0.0.1:9", models=("edge-test",))
    told = serve.facts(summary(core, core_url=core.url), Config(upstream=(core,)))
    assert told["upstream"] == "embedded core (scripted; no model behind it)"
    assert '"model": "edge-test"' in told["try"]
    assert "cache" not in told
    assert told["hits"] == "budget 0.5 % wrong per request"
    told = serve.facts(summary(CLUSTER, cache="disk full"), Config(upstream=(CLUSTER,)))
    assert told["upstream"] == "trt (trtllm) at http://127.0.0.1:1"
    assert told["cache"] == "none: disk full"
    assert "sk-hush" not in json.dumps(told)


def test_the_curl_line_shows_where_a_key_goes() -> None:
    auth = Auth(mode="keys", tenant=(AuthTenant(id="t", keys=("k",)),))
    told = serve.facts(summary(CLUSTER), Config(upstream=(CLUSTER,), auth=auth))
    assert "authorization: Bearer KEY" in told["try"]


@contextmanager
def serving(folder: Path, *arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A daemon as a process, on free ports, without torch."""
    ports = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", str(folder / "data"))
    own = {"EDGECACHE__EMBED__MODEL": "hashing", "EDGECACHE__STORE__SYNC": "false", **environment}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "edgecache", "serve", *ports, *arguments],
            cwd=ROOT,
            env={**os.environ, **own},  # noqa: TID251 - of the child
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()


@pytest.mark.slow
def test_with_nothing_configured_it_serves_says_so_and_stops_on_sigterm(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, stdout):
        lines = [stdout.readline() for _ in range(7)]
        assert lines[0].startswith("edgecache "), (tmp_path / "log").read_text()
        told = {name: value.strip() for name, _, value in (line.strip().partition("  ") for line in lines[1:])}
        assert told["embedder"] == "hashing on cpu (fp32)"
        assert told["upstream"] == "embedded core (scripted; no model behind it)"
        pasted = subprocess.run(told["try"], shell=True, capture_output=True, text=True, check=True)  # noqa: S602
        assert "HTTP/1.1 200" in pasted.stdout
        assert "x-edgecache-upstream: embedded-core" in pasted.stdout.lower()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


@pytest.mark.slow
def test_json_facts_and_a_reload_that_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "edgecache.toml"
    file.write_text('[server]\npop = "one"\n')
    with serving(tmp_path, "--config", str(file), "--json") as (process, stdout):
        text = ""
        while not text.endswith("}\n"):
            line = stdout.readline()
            assert line, (tmp_path / "log").read_text()
            text += line
        told = json.loads(text)
        file.write_text("[server]\npopp = 1\n")
        answer = httpx.post(told["admin"] + "/admin/v1/reload")
        assert answer.status_code >= 400
        assert "did you mean 'pop'" in answer.json()["detail"]
        assert httpx.get(told["admin"] + "/readyz").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


@pytest.mark.slow
def test_an_address_that_is_taken_ends_it_with_78(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, stdout):
        stdout.readline()
        taken = stdout.readline().split()[1].removeprefix("http://").removesuffix("/v1")
        with serving(tmp_path / ".", "--listen", taken, "--data", str(tmp_path / "other")) as (second, _out):
            assert second.wait(timeout=30) == 78
    assert "cannot listen on" in (tmp_path / "log").read_text()
