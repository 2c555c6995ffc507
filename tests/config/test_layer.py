import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.config.layer import Layer, from_text, problem


def read(raw: dict[str, Any]) -> Layer:
    layer = Layer()
    layer.read(raw, lambda path: f"file f:{len(path)}")
    return layer


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"cache": {"ttl": -1}}, "f:2: cache.ttl: expected a number, at least 0, got -1"),
        ({"cache": {"ttl": "5"}}, "f:2: cache.ttl: expected a number, at least 0, got '5'"),
        ({"cache": {"ttl": True}}, "f:2: cache.ttl: expected a number, at least 0, got True"),
        ({"cache": {"ttl": float("inf")}}, "f:2: cache.ttl: expected a finite number, got inf"),
        ({"cache": {"enabled": 1}}, "f:2: cache.enabled: expected true or false, got 1"),
        ({"cache": {"semantic": {"treshold": 1}}}, "unknown key (did you mean 'threshold'?)"),
        ({"cache": {"threshold": 1}}, "unknown key (did you mean 'cache.semantic.threshold'?)"),
        ({"cashe": {}}, "f:1: cashe: unknown key (did you mean 'cache'?)"),
        ({"zzz": 1}, "f:1: zzz: unknown key"),
        ({"cache": 5}, "f:1: cache: expected a table, got 5"),
        ({"upstream": {"name": "a"}}, "f:1: upstream: expected tables, each under [[upstream]]"),
        ({"upstream": [5]}, "f:1: upstream: expected tables, each under [[upstream]]"),
        ({"upstream": [{"name": "a"}]}, "f:2: upstream[0]: url is missing"),
        (
            {"server": {"pop": dt.date(2026, 1, 1)}},
            "server.pop: expected a string, got datetime.date(2026, 1, 1)",
        ),
        ({"auth": {"mode": "key"}}, "auth.mode: expected one of forward, keys, none, got 'key'"),
        ({"core": {"models": ["a", 1]}}, "core.models: expected an array (string), got ['a', 1]"),
    ],
)
def test_a_mistake_is_named_with_place_key_and_remedy(raw: dict[str, Any], expected: str) -> None:
    (only,) = read(raw).problems
    assert expected in only


def test_every_mistake_is_listed() -> None:
    layer = read({"cache": {"ttl": "x", "nope": 1}, "store": {"sync": 3}})
    assert len(layer.problems) == 3


def test_a_wrong_secret_is_not_repeated() -> None:
    (only,) = read({"upstream": [{"name": "a", "url": "http://a", "api_key": 123456}]}).problems
    assert "123456" not in only


def test_values_and_places_are_kept_by_path() -> None:
    layer = read({"upstream": [{"name": "a", "url": "http://a"}], "cache": {"ttl": 5}})
    assert layer.problems == []
    assert layer.values["upstream", 0, "name"] == "a"
    assert layer.values["cache", "ttl"] == 5.0
    assert layer.origins["cache", "ttl"] == "file f:2"


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(" hush\n")
    (tmp_path / "keys").write_text("one\n\n two \n")
    layer = read(
        {
            "admin": {"token_file": str(tmp_path / "token")},
            "auth": {"tenant": [{"id": "t", "keys_file": str(tmp_path / "keys")}]},
        }
    )
    assert layer.problems == []
    assert layer.values["admin", "token"] == "hush"
    assert layer.values["auth", "tenant", 0, "keys"] == ("one", "two")


def test_a_keys_file_may_be_empty_because_the_last_key_may_be_revoked(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("\n")
    layer = read({"auth": {"tenant": [{"id": "t", "keys_file": str(tmp_path / "keys")}]}})
    assert layer.problems == []
    assert layer.values["auth", "tenant", 0, "keys"] == ()


def test_an_unusable_secret_file_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, reason in (("absent", "No such file"), ("empty", "is empty"), ("binary", "not UTF-8")):
        (only,) = read({"admin": {"token_file": str(tmp_path / name)}}).problems
        assert "admin.token_file" in only
        assert reason in only
    (only,) = read({"admin": {"token_file": 5}}).problems
    assert "expected the path of a file" in only


def test_only_secrets_have_a_file_form(tmp_path: Path) -> None:
    (only,) = read({"server": {"pop_file": str(tmp_path / "x")}}).problems
    assert "server.pop_file: unknown key" in only


def test_a_secret_given_twice_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one")
    (only,) = read({"admin": {"token": "two", "token_file": str(tmp_path / "token")}}).problems
    assert "admin.token: is set twice" in only


def test_a_problem_without_a_place_names_the_key_alone() -> None:
    assert problem("default", "a.b", "is wrong") == "a.b: is wrong"
    assert problem("file x:3", "", "is wrong") == "x:3: is wrong"


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("cache.ttl", "5", 5),
        ("cache.ttl", "5 # five", 5),
        ("cache.ttl", "5\nx = 1", "5\nx = 1"),
        ("cache.ttl", "soon", "soon"),
        ("cache.enabled", "false", False),
        ("core.models", '["a", "b"]', ["a", "b"]),
        ("server.pop", "5", "5"),
        ("auth.mode", "keys", "keys"),
        ("admin.token", '"quoted"', '"quoted"'),
        ("cache", "{ ttl = 1 }", {"ttl": 1}),
        ("no.such.key", "5", "5"),
        ("cache.ttl.deeper", "5", "5"),
    ],
)
def test_text_is_read_as_the_setting_wants_it(path: str, text: str, value: object) -> None:
    assert from_text(tuple(path.split(".")), text) == value


@given(st.text())
def test_strings_are_taken_literally(text: str) -> None:
    assert from_text(("server", "pop"), text) == text


@given(st.floats(min_value=0, allow_infinity=False) | st.integers(min_value=0, max_value=2**53))
def test_numbers_survive_the_way_through_the_environment(number: float) -> None:
    text = repr(number)
    assert from_text(("cache", "ttl"), text) == number
    layer = read({"cache": {"ttl": from_text(("cache", "ttl"), text)}})
    assert layer.values["cache", "ttl"] == number
