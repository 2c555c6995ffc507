from pathlib import Path

import aiohttp
import psutil
import pytest

from edgecache.errors import ConfigError
from edgecache.sim.pop import own_pop


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """No torch, so that it starts quickly."""
    path = tmp_path / "pop.toml"
    path.write_text('[embed]\nmodel = "hashing"\n\n[core]\ntime_to_first_token = 0.0\ninter_token_latency = 0.0\n')
    return ["--config", str(path)]


@pytest.mark.slow
async def test_a_pop_is_ready_when_it_is_yielded_and_gone_afterwards(settings: list[str]) -> None:
    async with own_pop(settings) as pop:
        request = {"model": "edge-test", "messages": [{"role": "user", "content": "Why is rain cold?"}]}
        async with aiohttp.ClientSession() as session:
            async with session.get(pop.admin + "/readyz") as response:
                assert response.status == 200
            seen = []
            for _ in range(50):  # an answer is stored shortly after it was sent
                async with session.post(pop.url + "/v1/chat/completions", json=request) as response:
                    seen.append(response.headers["x-edgecache-status"])
                if seen[-1] == "HIT":
                    break
            assert (seen[0], seen[-1]) == ("MISS", "HIT")
        assert pop.ready_after > 0
        folder = pop.data.parent
    assert not psutil.pid_exists(pop.pid)
    assert not folder.exists()


@pytest.mark.slow
async def test_data_that_was_given_is_kept(settings: list[str], tmp_path: Path) -> None:
    async with own_pop(settings, data=tmp_path / "kept") as pop:
        assert pop.data == tmp_path / "kept"
    assert (tmp_path / "kept").exists()


@pytest.mark.slow
async def test_a_pop_that_refuses_to_start_is_reported_with_what_it_said(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("[server]\nlistten = 'x'\n")
    with pytest.raises(ConfigError, match=r"(?s)did not become ready.*listten"):
        async with own_pop(["--config", str(path)]):
            pass
