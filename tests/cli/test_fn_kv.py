from pathlib import Path
from typing import Any

import pytest

from edgecache.errors import EdgeCacheError

pytestmark = pytest.mark.slow


async def test_values_are_put_got_listed_and_deleted(developer: Any, tmp_path: Path) -> None:
    await developer.here("deploy")
    assert (await developer.here("kv", "put", "seen", "a/b é", "value"))["bytes"] == 5
    file = tmp_path / "value"
    file.write_bytes(b"\x00\xff")
    await developer.here("kv", "put", "seen", "raw", "--file", file)
    await developer.here("kv", "put", "seen", "typed", "--ttl", "60", typed=b"from input")
    got = await developer.run("kv", "get", "seen", "raw", "--dir", developer.folder)
    assert got.stdout_bytes == b"\x00\xff"
    assert (await developer.here("kv", "get", "seen", "a/b é"))["value"] == "value"
    assert (await developer.here("kv", "list", "seen"))["keys"] == ["a/b é", "raw", "typed"]
    assert (await developer.here("kv", "list", "seen", "--prefix", "t", "--limit", "1"))["keys"] == ["typed"]
    await developer.here("kv", "delete", "seen", "raw")
    listed = await developer.run("kv", "list", "seen", "--dir", developer.folder)
    assert listed.stdout == "key\na/b é\ntyped\n"


async def test_what_is_not_there_is_an_error(developer: Any, tmp_path: Path) -> None:
    await developer.here("deploy")
    absent = await developer.run("kv", "get", "seen", "absent", "--dir", developer.folder)
    assert isinstance(absent.exception, EdgeCacheError)
    missing = await developer.run("kv", "put", "seen", "k", "--file", tmp_path / "absent", "--dir", developer.folder)
    assert "No such file" in str(missing.exception)
    both = await developer.run("kv", "put", "seen", "k", "v", "--file", "f", "--dir", developer.folder)
    assert both.exit_code == 2
