from pathlib import Path

import numpy as np
import pytest

from edgecache import config
from edgecache.errors import ConfigError
from edgecache.quality.datasets import Stream
from edgecache.quality.kit import Kit


def test_a_room_holds_the_stream_first_and_then_the_rest(kit: Kit, repeat: Stream) -> None:
    room = kit.room(repeat, ["one more", "and one"])
    assert room.texts[: len(repeat.texts)] == repeat.texts
    assert room.texts[len(repeat.texts) :] == ("one more", "and one")
    assert len(room.neighbours.ids) == len(repeat.texts)
    assert len(room.vectors) == len(room.texts)
    np.testing.assert_array_equal(room.vectors[-1], kit.vectors(["and one"])[0])


def test_hashing_comes_without_a_verifier(tmp_path: Path) -> None:
    kit = Kit.open(config.Embed(model="hashing"), tmp_path)
    assert kit.models == {"embedder": kit.embedder.fingerprint, "verifier": "none"}
    with pytest.raises(ConfigError, match="pair verifier"):
        kit.demand_verifier()


def test_a_whole_kit_demands_nothing(kit: Kit) -> None:
    kit.demand_verifier()
    assert kit.models["verifier"] == "shared-words:1"
