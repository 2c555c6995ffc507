from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.config import Config, Loaded, load, schema
from edgecache.errors import ConfigError


def loaded(
    file: Path | None = None, environment: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> Loaded:
    return load(file=file, environment=environment or {}, overrides=overrides or {})


def refused(file: Path | None = None, **given_: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(file, **given_)
    return caught.value.message.splitlines()


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "edgecache.toml"


def test_without_anything_the_defaults_hold() -> None:
    result = loaded()
    assert result.config == Config()
    assert set(result.origins.values()) == {"default"}


def test_the_command_line_wins_over_the_environment_over_the_file_over_the_default(toml: Path) -> None:
    toml.write_text('[server]\npop = "f"\nlisten = "127.0.0.1:1"\n[cache]\nttl = 1\n')
    result = loaded(
        toml,
        environment={"EDGECACHE__SERVER__POP": "e", "EDGECACHE__SERVER__LISTEN": "127.0.0.1:2", "HOME": "/"},
        overrides={"server.listen": "127.0.0.1:3", "server.data": None},
    )
    assert (result.config.cache.ttl, result.config.server.pop) == (1.0, "e")
    assert result.config.server.listen == "127.0.0.1:3"
    assert result.config.server.data == "data"
    assert result.origins["cache.ttl"] == f"file {toml}:5"
    assert result.origins["server.pop"] == "environment EDGECACHE__SERVER__POP"
    assert result.origins["server.listen"] == "command line"
    assert result.origins["server.data"] == "default"


def test_origins_name_every_setting(toml: Path) -> None:
    toml.write_text('[[upstream]]\nname = "a"\nurl = "http://a"\n')
    result = loaded(toml)
    assert list(result.origins) == list(schema.flatten(result.config))
    assert result.origins["upstream[0].url"] == f"file {toml}:3"
    assert result.origins["upstream[0].dialect"] == "default"


def test_an_array_of_tables_is_replaced_as_a_whole(toml: Path) -> None:
    toml.write_text('[[upstream]]\nname = "a"\nurl = "http://a"\n[[upstream]]\nname = "b"\nurl = "http://b"\n')
    result = loaded(toml, overrides={"upstream": [{"name": "c", "url": "http://c"}]})
    assert [upstream.name for upstream in result.config.upstream] == ["c"]
    emptied = loaded(toml, environment={"EDGECACHE__UPSTREAM": "[]"})
    assert emptied.config.upstream == ()
    assert emptied.origins["upstream"] == "environment EDGECACHE__UPSTREAM"


def test_nested_settings_have_names_in_the_environment() -> None:
    result = loaded(environment={"EDGECACHE__CACHE__SEMANTIC__THRESHOLD": "0.97", "EDGECACHE__CORE__MODELS": '["m"]'})
    assert result.config.cache.semantic.threshold == 0.97
    assert result.config.core.models == ("m",)


def test_a_secret_of_the_environment_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hush\n")
    result = loaded(environment={"EDGECACHE__ADMIN__TOKEN_FILE": str(tmp_path / "token")})
    assert result.config.admin.token == "hush"
    assert result.origins["admin.token"] == "environment EDGECACHE__ADMIN__TOKEN_FILE"


def test_mistakes_of_every_source_are_listed_with_their_place(toml: Path) -> None:
    toml.write_text("[cache]\nttl = -1\n[cache.semantic]\n\ntreshold = 0.9\n")
    lines = refused(toml, environment={"EDGECACHE__X": "1"}, overrides={"server.pop": 5})
    assert lines == [
        f"{toml}:2: cache.ttl: expected a number, at least 0, got -1",
        f"{toml}:5: cache.semantic.treshold: unknown key (did you mean 'threshold'?)",
        "environment EDGECACHE__X: x: unknown key",
        "command line: server.pop: expected a string, got 5",
    ]


def test_settings_that_do_not_fit_are_placed_where_they_were_set(toml: Path) -> None:
    toml.write_text('[[upstream]]\nname = "a"\nurl = "http://a"\n[[upstream]]\nname = "a"\nurl = "http://b/v1"\n')
    assert refused(toml, overrides={"admin.listen": "0.0.0.0:1"}) == [
        "command line: admin.listen: reachable from other machines: set admin.token, or listen on 127.0.0.1",
        f"{toml}:2: upstream: two upstreams are named 'a'",
        f"{toml}:6: upstream[1].url: leave out the /v1 at its end",
    ]


@pytest.mark.parametrize(("text", "line"), [("a = 1\nb = \n", 2), ("[cache]\n[cache]\n", 2), ("a = [1,\r\n", 1)])
def test_a_file_that_is_not_toml_is_refused_with_its_line(toml: Path, text: str, line: int) -> None:
    toml.write_bytes(text.encode())
    (only,) = refused(toml)
    assert only.startswith(f"{toml}:{line}: not TOML: ")


def test_a_file_that_cannot_be_read_is_refused(toml: Path) -> None:
    assert "cannot be read: No such file" in refused(toml)[0]
    toml.write_bytes(b"\xff")
    assert "is not UTF-8" in refused(toml)[0]


def test_windows_line_ends_do_not_move_the_lines(toml: Path) -> None:
    toml.write_bytes(b"[cache]\r\n\r\nttl = 'x'\r\n")
    assert refused(toml)[0].startswith(f"{toml}:3: cache.ttl")


def test_the_digest_follows_the_values_but_not_the_text_of_secrets() -> None:
    one = loaded(overrides={"cache.ttl": 1.0})
    assert one.digest == loaded(environment={"EDGECACHE__CACHE__TTL": "1"}).digest
    assert one.digest != loaded().digest
    assert loaded(overrides={"admin.token": "a"}).digest == loaded(overrides={"admin.token": "b"}).digest
    assert loaded(overrides={"admin.token": "a"}).digest != loaded().digest


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f") if isinstance(value, str) else repr(value)


LEAVES = {
    ".".join(str(part) for part in leaf.path): leaf
    for leaf in schema.leaves()
    if leaf.path[0] not in {"upstream", "auth"} and leaf.path != ("core", "failure_types")
}


def _values(kind: str) -> st.SearchStrategy[Any]:
    text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
    if kind.startswith("one of"):
        return st.sampled_from(kind.removeprefix("one of ").split(", "))
    if kind.startswith("array"):
        return st.lists(text, max_size=3)
    if kind == "true or false":
        return st.booleans()
    if kind.startswith("whole number"):
        return st.integers(1, 64)
    return text if kind == "string" else st.floats(0, 1)


@given(st.data())
def test_any_value_means_the_same_in_the_file_and_in_the_environment(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(LEAVES)))
    value = data.draw(_values(LEAVES[key].kind))
    path = tmp_path_factory.getbasetemp() / "round-trip.toml"
    path.write_text(f"{key} = {_toml(value)}\n", encoding="utf-8")
    plain = isinstance(value, str)
    environment = {"EDGECACHE__" + key.upper().replace(".", "__"): value if plain else _toml(value)}
    assert _outcome(path, {}) == _outcome(None, environment)


def _outcome(file: Path | None, environment: Mapping[str, str]) -> Config | list[str]:
    try:
        return loaded(file, environment).config
    except ConfigError as error:  # what does not fit together must not fit in both
        return [line.partition(": ")[2] for line in error.message.splitlines()]
