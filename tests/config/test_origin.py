import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.config.origin import dotted, error_line, line_of, lines

NESTED = '''\
[cache]
ttl = 5 # [core]
semantic = { threshold = 0.9 }

[log]
level = """
[cache]
ttl = 7
"""

[[upstream]]
name = "one"
models = [
  "a", # name = "no"
  "b",
]
[[upstream]]
"name" = "two"
[[auth.tenant]]
id = "t"
'''


def test_every_key_knows_its_line() -> None:
    found = {dotted(path): line for path, line in lines(NESTED).items()}
    assert found == {
        "cache": 1,
        "cache.ttl": 2,
        "cache.semantic": 3,
        "cache.semantic.threshold": 3,
        "log": 5,
        "log.level": 6,
        "upstream[0]": 11,
        "upstream[0].name": 12,
        "upstream[0].models": 13,
        "upstream[0].models[0]": 13,
        "upstream[0].models[1]": 13,
        "upstream[1]": 17,
        "upstream[1].name": 18,
        "auth.tenant[0]": 19,
        "auth.tenant[0].id": 20,
    }


def test_a_table_under_an_array_belongs_to_its_last_element() -> None:
    assert lines("[[a]]\n[[a]]\n[a.b]\nc = 1")["a", 1, "b", "c"] == 4


def test_what_is_absent_is_placed_at_what_surrounds_it() -> None:
    found = lines("\n[[upstream]]\nname = 1")
    assert line_of(found, ("upstream", 0, "url")) == 2
    assert line_of(found, ("cache", "ttl")) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = 1\nb = \nc = 2", 2), ("a = 1\na = 2", 2), ("a = 1\n\nb = [1,", 3), ('a = """x\ny', 2), ("[a]\n[a]\n", 2)],
)
def test_a_syntax_error_names_its_line(text: str, line: int) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(text)
    assert error_line(caught.value, text) == line


def _toml(value: object) -> str:
    if isinstance(value, str) and value and "'" not in value and '"' not in value:
        return f"'''{value}'''"
    if isinstance(value, list):
        return "[\n" + "".join(f"  {_toml(item)}, # x = [\n" for item in value) + "]"
    return repr(value) if not isinstance(value, str) else "''"


names = st.text("abc_-", min_size=1, max_size=6)
values = st.recursive(st.integers() | st.text("ab =\n[]#", max_size=12), lambda inner: st.lists(inner, max_size=3))


@given(st.dictionaries(names, st.dictionaries(names, values, max_size=4), max_size=4))
def test_lines_point_at_the_keys_of_any_document(tables: dict[str, dict[str, object]]) -> None:
    text = ""
    for table, keys in tables.items():
        text += f"[{table}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in keys.items())
    tomllib.loads(text)
    found = lines(text)
    rows = text.split("\n")
    for table, keys in tables.items():
        assert rows[found[table,] - 1] == f"[{table}]"
        for key in keys:
            assert rows[found[table, key] - 1].startswith(f"{key} = ")
