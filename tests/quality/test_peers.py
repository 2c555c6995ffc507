import sys
from pathlib import Path

import numpy as np
import pytest

from edgecache.quality import peers
from edgecache.quality.datasets import Stream
from edgecache.quality.kit import Kit
from edgecache.quality.stream import play

RUNNER = """
import json, sys
import numpy as np
data = np.load(sys.argv[1])
options = json.loads(sys.argv[2])
if options.get("fail"):
    sys.exit("no such thing")
seen = set()
for question, answer in zip(data["asked"].tolist(), data["sets"].tolist()):
    print(json.dumps({"hit": question in seen, "right": True}))
    seen.add(question)
print("noise of a library")
print(json.dumps({"seconds": 0.5}))
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A peer that is an exact cache, with its environment made: this Python."""
    folder, made = tmp_path / "peers" / "exact", tmp_path / "home" / "exact"
    folder.mkdir(parents=True)
    (made / "bin").mkdir(parents=True)
    (folder / "runner.py").write_text(RUNNER)
    for place in (folder, made):
        (place / "requirements.txt").write_text("# nothing\n")
    (made / "bin" / "python").symlink_to(sys.executable)
    return tmp_path


def test_policies_play_in_this_process(kit: Kit, repeat: Stream) -> None:
    played = {rules.name: play(kit.room(repeat), repeat, rules, seed=0) for rules in peers.policies()}
    assert played["exact only"].hits == repeat.repeats
    by_cosine = [played[f"cosine {least}"].hits.rate for least in ("0.97", "0.95", "0.90")]
    assert by_cosine == sorted(by_cosine)
    assert played["cosine 0.95"].labels == 0
    redis = next(each for name, each in played.items() if name.startswith("redisvl"))
    assert redis.tiers.tolist() == played["cosine 0.90"].tiers.tolist()


def test_a_runner_reads_what_was_prepared_and_its_lines_are_counted(home: Path, kit: Kit, repeat: Stream) -> None:
    file = home / "data" / "s.npz"
    peers.prepare(repeat, kit.vectors(repeat.texts), file)
    with np.load(file) as data:
        assert data["texts"].tolist() == list(repeat.texts)
        assert data["vectors"].shape[0] == len(repeat.texts)
    found = peers.run("exact", file, {}, "an exact cache", home=home / "home", folder=home / "peers")
    assert (found.requests, found.hits, found.wrong) == (len(repeat.asked), repeat.repeats.count, 0)
    assert found.to_dict()["hits"]["rate"] == pytest.approx(repeat.repeats.rate, abs=1e-6)


def test_what_a_peer_did_is_kept_until_something_changes(home: Path, kit: Kit, repeat: Stream) -> None:
    file = home / "data" / "s.npz"
    peers.prepare(repeat, kit.vectors(repeat.texts), file)
    first = peers.run("exact", file, {}, "one", home=home / "home", folder=home / "peers")
    (home / "home" / "exact" / "bin" / "python").unlink()
    again = peers.run("exact", file, {}, "two", home=home / "home", folder=home / "peers")
    assert (again.name, again.hits) == ("two", first.hits)
    assert "cannot be run" in peers.run("exact", file, {"x": 1}, "p", home=home / "home", folder=home / "peers").error


def test_a_peer_that_fails_says_why(home: Path) -> None:
    found = peers.run("exact", home / "absent.npz", {"fail": True}, "p", home=home / "home", folder=home / "peers")
    assert "No such file" in found.error
    assert found.to_dict() == {"name": "p", "error": found.error}
    assert "checkout of the repository" in peers.run("absent", home, {}, "p", home=home, folder=home).error


@pytest.mark.slow
def test_what_pip_cannot_install_is_said_with_what_to_try(home: Path) -> None:
    (home / "peers" / "exact" / "requirements.txt").write_text("--no-index\nedgecache-has-no-such-peer==1\n")
    found = peers.run("exact", home / "s.npz", {}, "p", home=home / "home", folder=home / "peers")
    assert "pip could not install exact" in found.error
    assert "-m pip install -r" in found.error


@pytest.mark.parametrize("peer", ["gptcache", "vcache"])
def test_peers_are_pinned_and_have_a_runner(peer: str) -> None:
    lines = (peers.FOLDER / peer / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in lines if line and not line.startswith("#"))
    assert "edgecache" not in (peers.FOLDER / peer / "runner.py").read_text().split('"""', 2)[2]
