from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.errors import FunctionRefused
from edgecache.functions.manifest import Allow, Bind, Build, Manifest, Phase, Quotas, canonical, check, convert, parse

FULL = """
name = "greet"
description = "Says hello.\\nAnd more."
on_error = "fail"
isolation = "process"
variables = { greeting = "Hello" }

[[bind]]
phase = "hit"
tenants = ["acme", "team-*"]
models = ["gpt-*"]
stream = "chunk"
order = 10

[[bind]]
phase = "route"
path = "/items/*"

[limits]
cpu_ms = 5

[allow]
kv = ["default"]
variables = ["greeting"]
secrets = ["TOKEN", "api_key"]
fetch = ["https://api.example.com", "http://10.0.0.1:8080", "https://*.example.com:8443", "https://[2001:db8::1]"]
llm = ["*"]
cache = true

[build]
command = "make"
"""


def refused(values: Any) -> str:
    with pytest.raises(FunctionRefused) as caught:
        convert(values)
    assert caught.value.code == "manifest"
    return caught.value.message


def named(**fields: Any) -> dict[str, Any]:
    return {"name": "greet"} | fields


def test_a_whole_manifest_is_read() -> None:
    manifest = parse(FULL)
    hit, route = manifest.bind
    assert hit == Bind(phase=Phase.HIT, tenants=("acme", "team-*"), models=("gpt-*",), stream="chunk", order=10)
    assert (route.phase, route.path, route.order) == (Phase.ROUTE, "/items/*", 100)
    assert (manifest.limits.cpu_ms, manifest.limits.wall_ms, manifest.isolation) == (5, 1000, "process")
    assert convert(msgspec.to_builtins(manifest)) == manifest


def test_the_least_manifest_is_a_name() -> None:
    assert parse('name = "x"') == Manifest(name="x")


@pytest.mark.parametrize(
    "name",
    ["", "../etc", "a/b", "A", "a_b", "-a", "a-", "a.b", "a\n", "a\x00", "é", "a" * 64, "..", ".", " a", "a\x1b[2J"],
)
def test_a_name_that_is_no_dns_label_is_refused(name: str) -> None:
    assert refused({"name": name}).startswith("function.toml: ")
    with pytest.raises(FunctionRefused, match=r"lower-case letters, digits and inner hyphens, 63 at most.*\$\.name"):
        check(Manifest(name=name))


@pytest.mark.parametrize("name", ["a", "a-b", "0", "a" * 63, "a--b"])
def test_a_dns_label_is_a_name(name: str) -> None:
    assert convert({"name": name}).name == name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "missing required field `name`"),
        (named(nmae=1), "unknown field `nmae`"),
        (named(limits={"cpu_ms": 0}), "at `$.limits.cpu_ms`"),
        (named(limits={"cpu_ms": 2**70}), "at `$.limits.cpu_ms`"),
        (named(limits={"host_bytes": 2**63}), "at `$.limits.host_bytes`"),
        (named(bind=[{"phase": "sometimes"}]), "at `$.bind[0].phase`"),
        (named(bind=[{"phase": "hit", "order": 10**9}]), "at `$.bind[0].order`"),
        (named(bind=[{"phase": "hit", "models": [""]}]), "at `$.bind[0].models[0]`"),
        (named(bind=[{"phase": "hit"}] * 33), "length <= 32"),
        (named(bind=[{"phase": "hit"}] * 2), "the same as bind[0]: the function would run twice - at `$.bind[1]`"),
        (named(bind=[{"phase": "hit", "tags": ["a", "a"]}]), "'a' is there twice - at `$.bind[0].tags[1]`"),
        (named(bind=[{"phase": "hit", "tags": ["a\x1b"]}]), "control characters, or blanks at its ends"),
        (named(bind=[{"phase": "hit", "tenants": [" a"]}]), "blanks at its ends - at `$.bind[0].tenants[0]`"),
        (named(bind=[{"phase": "key", "stream": "chunk"}]), "in the phase key nothing is streamed"),
        (named(description="\x1b[2J"), "control characters - at `$.description`"),
        (named(variables={"Greeting": "x"}), "$.variables"),
        (named(variables={"a\n": "x"}), "$.variables"),
        (named(variables={"a": "x" * 4097}), "length <= 4096"),
        (named(allow={"variables": ["a"]}), "'a' has no value in [variables] - at `$.allow.variables[0]`"),
        (named(variables={"a": ""}, allow={"variables": ["a"], "secrets": ["a"]}), "both a variable and a secret"),
        (named(allow={"kv": ["../x"]}), "at `$.allow.kv[0]`"),
        (named(allow={"kv": ["a", "a"]}), "'a' is there twice - at `$.allow.kv[1]`"),
        (named(allow={"secrets": ["a b"]}), "at `$.allow.secrets[0]`"),
        (named(description="\ud800"), "valid Unicode"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(values: dict[str, Any], message: str) -> None:
    assert message in refused(values)


@pytest.mark.parametrize(
    "path", ["", "items", "/a b", "/a?b=1", "/a#b", "/..", "/a/../b", "/a/./b", "/%2e%2E/a", "//a", "/a\n", "/é", "\\a"]
)
def test_a_path_that_no_request_has_is_refused(path: str) -> None:
    assert "at `$.bind[0].path`" in refused(named(bind=[{"phase": "route", "path": path}]))


@pytest.mark.parametrize("path", ["*", "/", "/a", "/a/*", "/*/b", "/a..b", "/v1/chat/completions", "/a%20b", "/...x"])
def test_a_path_is_taken(path: str) -> None:
    assert convert(named(bind=[{"phase": "route", "path": path}])).bind[0].path == path


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("example.com", "begins with http:// or https://"),
        ("ftp://example.com", "begins with http:// or https://"),
        ("https://", "not a host name"),
        ("https://example.com/", "ends after host and port"),
        ("https://example.com/api", "ends after host and port"),
        ("https://example.com?x", "ends after host and port"),
        ("https://user:pass@example.com", "no user name or password"),
        ("https://example.com:0", "port 0"),
        ("https://example.com:99999", "port 99999"),
        ("https://example.com:x", "is not a host and, if any, a port"),
        ("https://*", "`*` stands only before a whole host name"),
        ("https://a*.example.com", "`*` stands only before a whole host name"),
        ("https://*.*.com", "`*` stands only before a whole host name"),
        ("https://*.com", "at least two labels"),
        ("https://*.10.0.0.1", "at least two labels"),
        ("https://0x7f.1", "not an address in its plain form"),
        ("https://2130706433", "not an address in its plain form"),
        ("https://exa mple.com", "visible ASCII only"),
        ("https://ex\u00e4mple.com", "visible ASCII only"),
        ("https://-a.com", "not a host name"),
        ("HTTPS://example.com", "begins with http:// or https://"),
    ],
)
def test_an_entry_of_fetch_that_names_no_origin_is_refused(entry: str, why: str) -> None:
    message = refused(named(allow={"fetch": ["https://fine.example.com", entry]}))
    assert "is not `scheme://host[:port]`" in message
    assert why in message
    assert "at `$.allow.fetch[1]`" in message


def test_a_manifest_that_is_too_large_is_refused_with_both_sizes() -> None:
    text = 'name = "x"\n# ' + "x" * 70_000
    with pytest.raises(FunctionRefused, match="has 70013 bytes, of at most 65536: 4477 too many"):
        parse(text)
    values = {f"v{number}": "x" * 4000 for number in range(20)}
    assert "too many" in refused(named(variables=values))


@pytest.mark.parametrize(
    "text", ["name = ", "name = 'x'\nname = 'y'", "\x00", "name = 'x'\n[[bind]", "name = '\ud800'"]
)
def test_what_is_no_toml_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(FunctionRefused, match=r"function\.toml: "):
        parse(text)


def test_the_canonical_form_leaves_out_what_stays_at_home_and_the_order_of_keys() -> None:
    one = convert(named(variables={"a": "1", "b": "2"}, build={"command": "make"}))
    other = convert({"variables": {"b": "2", "a": "1"}, "name": "greet", "build": {"command": "rm -rf /"}})
    assert canonical(one) == canonical(other) == b'{"name":"greet","variables":{"a":"1","b":"2"}}'
    assert msgspec.json.decode(canonical(one), type=Manifest) == msgspec.structs.replace(one, build=Build())


def test_what_is_written_down_and_what_is_meant_anyway_are_the_same() -> None:
    said = named(
        limits={"wall_ms": 1000, "host_bytes": 4 * 1024 * 1024}, bind=[{"phase": "hit", "path": "*"}], allow={}
    )
    silent = named(bind=[{"phase": "hit"}])
    assert canonical(convert(said)) == canonical(convert(silent)) == b'{"bind":[{"phase":"hit"}],"name":"greet"}'


@given(st.builds(Allow, cache=st.booleans(), llm=st.sampled_from([(), ("*",), ("a", "b")])), st.integers(1, 600_000))
def test_the_canonical_form_is_that_of_what_it_says(allow: Allow, cpu: int) -> None:
    manifest = Manifest(name="x", allow=allow, limits=Quotas(cpu_ms=cpu))
    again = msgspec.json.decode(canonical(manifest), type=Manifest)
    assert (again, canonical(again)) == (manifest, canonical(manifest))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["name", "bind", "limits", "allow", "variables", "on_error", "build", "description", "x"])


@pytest.mark.slow
@given(st.dictionaries(KEYS, JSON))
def test_whatever_is_sent_is_a_manifest_or_refused(values: dict[str, Any]) -> None:
    try:
        manifest = convert(values)
    except FunctionRefused:
        return
    check(manifest)


@given(st.text(max_size=300))
def test_whatever_is_written_is_a_manifest_or_refused(text: str) -> None:
    try:
        parse(text)
    except FunctionRefused:
        return


@given(st.builds(Allow, fetch=st.lists(st.text(max_size=40), max_size=3).map(tuple)))
def test_whatever_stands_in_fetch_is_an_origin_or_refused(allow: Allow) -> None:
    try:
        check(Manifest(name="x", allow=allow))
    except FunctionRefused:
        return
    assert all(entry.startswith(("http://", "https://")) for entry in allow.fetch)
