from contextlib import AsyncExitStack
from pathlib import Path

from edgecache.clock import SystemClock
from edgecache.config import Store
from edgecache.daemon import stores
from edgecache.telemetry.metrics import Metrics

SMALL = Store(sync=False, max_bytes=16 * 1024**2, initial_map_bytes=1024**2)


async def test_a_store_is_made_where_there_is_none(tmp_path: Path) -> None:
    async with AsyncExitStack() as leaving:
        store, missing = stores.entries(tmp_path / "data", SMALL, leaving, clock=SystemClock(), metrics=Metrics())
        assert missing == ""
        assert store.stats().entries == 0
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
        store.close()


async def test_where_none_can_be_had_there_is_an_empty_one_elsewhere_and_the_reason(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file stands where the folder should be")
    async with AsyncExitStack() as leaving:
        store, missing = stores.entries(tmp_path / "data", SMALL, leaving, clock=SystemClock(), metrics=Metrics())
        assert "data" in missing
        assert store.stats().entries == 0
        store.close()
    assert (tmp_path / "data").read_text().startswith("a file")
