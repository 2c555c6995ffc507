import asyncio
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.config import Upstream
from edgecache.router.discovery import Discovery, merged, parse
from edgecache.tasks import Tasks

A = {"name": "a", "url": "http://a:8000", "tier": "regional", "models": ["m"], "price": {"input": 2}, "api_key": "k"}
B = {"name": "b", "url": "https://b"}


class Told:
    """What was called back."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lists: list[list[str]] = []
        self.discovery = Discovery(str(file), self._take, interval=0.01)

    def _take(self, found: list[Upstream]) -> None:
        self.lists.append([each.name for each in found])

    def write(self, content: Any) -> None:
        """As one should: a new file in the old one's place."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(content if isinstance(content, str) else json.dumps(content))
        fresh.rename(self.file)

    async def look(self, content: Any) -> None:
        self.write(content)
        await self.discovery.look()


@pytest.fixture
def told(tmp_path) -> Told:
    return Told(tmp_path / "upstreams.json")


def test_tables_have_the_keys_of_the_configuration() -> None:
    [found] = parse(json.dumps([A]).encode())
    assert (found.url, found.tier.value, found.models, found.price.input) == ("http://a:8000", "regional", ("m",), 2.0)
    assert found.api_key == "k"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "not JSON"),
        ("[", "not JSON"),
        ("{}", "not a list"),
        ("null", "not a list"),
        ('[{"name": "a"}]', r"`url` - at `\$\[0\]`"),
        ('[{"name": "a", "url": "http://a"}, {"name": "b", "url": "ftp://b"}]', r"at `\$\[1\]\.url`"),
        ('[{"name": "a", "url": "http://a", "colour": "red"}]', r"unknown field `colour` - at `\$\[0\]`"),
        ('[{"name": "a", "url": "http://a/v1"}]', r"\[0\]\.url: leave out the /v1"),
        ('[{"name": "a", "url": "http://a"}, {"name": "a", "url": "http://b"}]', "two upstreams are named 'a'"),
        ('[{"name": "a", "url": "http://a", "model": ' + "[" * 100_000, "."),
    ],
)
def test_what_is_wrong_is_said_with_its_place(body, problem) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(body.encode())


@given(st.binary(max_size=60))
def test_garbage_is_a_value_error_or_a_list(body) -> None:
    try:
        found = parse(body)
    except ValueError:
        return
    assert found == []


def test_the_configuration_wins_over_a_discovered_one_of_the_same_name(caplog) -> None:
    ours, theirs = Upstream(name="a", url="http://ours"), Upstream(name="a", url="http://theirs")
    other = Upstream(name="b", url="http://b")
    assert merged([ours], [theirs, other]) == [ours, other]
    assert "upstream a is configured" in caplog.text
    assert merged([], [theirs]) == [theirs]


async def test_every_new_list_is_told_once(told) -> None:
    await told.look([A])
    await told.discovery.look()
    await told.look([A, B])
    await told.look([A, B])  # written again, with nothing new
    await told.look([])
    assert told.lists == [["a"], ["a", "b"], []]
    assert told.discovery.found == []


def in_place(told: Told) -> None:
    told.file.write_text(json.dumps([A, B]))


def same_size_and_time(told: Told) -> None:
    """As two writes within the clock's resolution leave it."""
    status = told.file.stat()
    told.write(json.dumps([{**A, "name": "z"}]))
    os.utime(told.file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(("change", "names"), [(in_place, ["a", "b"]), (same_size_and_time, ["z"])])
async def test_a_change_is_seen_however_it_was_made(told, change: Callable[[Told], None], names) -> None:
    await told.look(json.dumps([A]))
    change(told)
    await told.discovery.look()
    assert told.lists[-1] == names


async def test_a_broken_file_keeps_the_last_good_list_and_is_complained_of_once(told, caplog) -> None:
    await told.look([A])
    await told.look('[{"name": "a", "url":')
    await told.discovery.look()
    assert told.lists == [["a"]]
    assert [each.name for each in told.discovery.found] == ["a"]
    [complaint] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert str(told.file) in complaint.getMessage()
    assert "not JSON" in complaint.getMessage()
    await told.look([A, B])
    assert told.lists[-1] == ["a", "b"]


async def test_secrets_of_a_broken_file_are_not_logged(told, caplog) -> None:
    await told.look([{**A, "api_key": "hush-hush", "url": "ftp://a"}])
    await told.look([{**A, "api_key": ["hush-hush"]}])
    assert len(caplog.records) == 2
    assert "hush-hush" not in caplog.text


async def test_a_file_that_is_not_there_is_complained_of_once_and_found_later(told, caplog) -> None:
    await told.discovery.look()
    await told.discovery.look()
    assert len(caplog.records) == 1
    assert "No such file" in caplog.text
    await told.look([A])
    told.file.unlink()
    await told.discovery.look()
    assert told.lists == [["a"]]
    assert len(told.discovery.found) == 1


async def test_it_goes_on_looking(told) -> None:
    tasks = Tasks()
    tasks.spawn(told.discovery.run(), name="discovery")
    try:
        async with asyncio.timeout(10):
            for number in range(1, 4):
                told.write([A, B][: number % 3])
                while len(told.lists) < number:
                    await asyncio.sleep(0.005)
    finally:
        await tasks.close()
    assert told.lists == [["a"], ["a", "b"], []]
