import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.config.tree import Functions
from edgecache.errors import FunctionRefused
from edgecache.functions.grants import describe, granted, needs_waiting
from edgecache.functions.manifest import Allow, Manifest, Quotas, parse
from edgecache.upstream.target import parse as target
from edgecache.wasm.hostcalls import Code, HostRefused

OPEN = Functions(fetch=True)


def grants(settings: Functions = OPEN, **allow):
    return granted(Manifest(name="f", allow=Allow(**allow)), settings)


def refusal(ask, *names) -> str:
    with pytest.raises(HostRefused) as caught:
        ask(*names)
    assert caught.value.code is Code.DENIED
    return caught.value.message


def test_nothing_is_granted_by_default() -> None:
    nothing = granted(Manifest(name="f", variables={"greeting": "hi"}), OPEN)
    assert 'write kv = ["carts"] under [allow] in function.toml' in refusal(nothing.store, "carts")
    assert 'write variables = ["greeting"] or secrets = ["greeting"]' in refusal(nothing.variable, "greeting")
    assert 'write fetch = ["https://a.example"]' in refusal(nothing.target, target("https://a.example/secret?token=1"))
    assert 'write llm = ["m"]' in refusal(nothing.model, "m")
    assert "write cache = true" in refusal(nothing.lookup)


def test_what_is_granted_is_and_nothing_else() -> None:
    manifest = parse(
        """
        name = "f"
        [allow]
        kv = ["carts"]
        variables = ["greeting"]
        secrets = ["token"]
        llm = ["small-*", "embedder"]
        cache = true
        [variables]
        greeting = "hi"
        hidden = "no"
        """
    )
    some = granted(manifest, OPEN)
    some.store("carts")
    some.lookup()
    assert some.variable("greeting") == "hi"
    assert some.secrets == {"token"}
    for model in ("small-1", "small-", "embedder"):
        some.model(model)
    for model in ("small", "SMALL-1", "a-small-1", "embedder2", ""):
        refusal(some.model, model)
    for store in ("cart", "carts2", "CARTS", "", "../carts"):
        refusal(some.store, store)
    for name in ("hidden", "missing", "token"):
        refusal(some.variable, name)


@pytest.mark.parametrize(
    ("entry", "covered", "others"),
    [
        (
            "https://api.example.com",
            "https://api.example.com/ https://API.example.com.:443/x?y",
            """http://api.example.com/ https://api.example.com:8443/ https://example.com/ https://a.api.example.com/
            https://api.example.com.evil.com/ https://evilapi.example.com/""",
        ),
        ("http://a.example:8080", "http://a.example:8080/", "http://a.example/ https://a.example:8080/"),
        (
            "https://*.example.com",
            "https://a.example.com/ https://a.b.example.com/",
            "https://example.com/ https://aexample.com/ https://a.example.com.evil.com/ https://1.2.3.4/",
        ),
        ("http://192.0.2.1:81", "http://192.0.2.1:81/", "http://192.0.2.2:81/ http://192.0.2.1/"),
        ("http://[2001:DB8:0::1]", "http://[2001:db8::1]/", "http://[2001:db8::2]/ http://[::ffff:192.0.2.1]/"),
        ("HTTPS://Api.Example.com.:443", "https://api.example.com/", "https://b.example.com/"),
    ],
)
def test_fetch_entries(entry: str, covered: str, others: str) -> None:
    some = grants(fetch=("https://unrelated.example", entry))
    for url in covered.split():
        some.target(target(url))
    for url in others.split():
        refusal(some.target, target(url))


@pytest.mark.parametrize(
    "entry",
    [
        "*",
        "https://*",
        "https://*.com",
        "https://*.",
        "https://*.1.2.3.4",
        "https://*.[2001:db8::1]",
        "https://a.*.example.com",
        "https://**.example.com",
        "https://a*.example.com",
        "*://example.com",
        "https://example.com/",
        "https://example.com/path",
        "https://example.com?q",
        "https://example.com#f",
        "https://user@example.com",
        "https://example.com:*",
        "https://example.com:0",
        "https://example.com:65536",
        "https://127.1",
        "https://2130706433",
        "https://b\u00fccher.example",
        "ftp://example.com",
        "example.com",
        "",
        "https://",
    ],
)
def test_fetch_entries_that_are_none_are_refused_at_the_upload(entry: str) -> None:
    with pytest.raises(FunctionRefused, match=r"`\$\.allow\.fetch` holds `scheme://host\[:port\]`, not ") as caught:
        grants(fetch=(entry,))
    assert caught.value.code == "manifest"
    assert repr(entry) in caught.value.message


@given(st.text(max_size=30))
def test_an_entry_grants_a_place_or_is_refused(text: str) -> None:
    for entry in (text, "https://" + text, "https://*." + text):
        try:
            some = grants(fetch=(entry,))
        except FunctionRefused:
            continue
        assert len(some.fetch) == 1
        assert "*" not in some.fetch[0].host


def test_the_operator_lets_functions_fetch_or_not() -> None:
    shut = grants(Functions(), fetch=("https://a.example",))
    assert "`functions.fetch` is false" in refusal(shut.target, target("https://a.example/"))


def test_the_operators_ceilings_hold() -> None:
    greedy = Quotas(
        cpu_ms=10_000,
        wall_ms=600_000,
        memory_mb=4096,
        host_calls=10**9,
        host_bytes=10**12,
        response_bytes=10**12,
        log_bytes=10**12,
    )
    settings = Functions()
    most = granted(Manifest(name="f", limits=greedy), settings)
    assert (most.limits.cpu, most.limits.wall) == (settings.max_cpu, settings.max_wall)
    assert (most.limits.memory, most.limits.response) == (settings.max_memory, settings.max_response_bytes)
    assert (most.calls, most.bytes, most.log) == (
        settings.max_host_calls,
        settings.max_host_bytes,
        settings.max_host_bytes,
    )


def test_asking_for_less_gives_less() -> None:
    asked = Quotas(cpu_ms=5, wall_ms=20, memory_mb=1, host_calls=2, host_bytes=300, response_bytes=4, log_bytes=5000)
    some = granted(Manifest(name="f", limits=asked), Functions())
    assert (some.limits.cpu, some.limits.wall, some.limits.memory, some.limits.response) == (0.005, 0.02, 1 << 20, 4)
    assert (some.calls, some.bytes, some.log) == (2, 300, 300)


def test_limits_are_told_with_what_was_asked_and_what_there_is() -> None:
    manifest = Manifest(
        name="f", limits=Quotas(cpu_ms=5000), allow=Allow(fetch=("https://a.example",), kv=("carts",), variables=("x",))
    )
    shares = {share.name: share for share in describe(manifest, Functions())}
    assert (shares["cpu_ms"].asked, shares["cpu_ms"].ceiling, shares["cpu_ms"].granted) == (5000, 1000, 1000)
    assert (shares["wall_ms"].asked, shares["wall_ms"].granted) == (1000, 1000)
    assert (shares["memory_mb"].ceiling, shares["memory_mb"].granted) == (128, 64)
    assert (shares["fetch"].asked, shares["fetch"].granted) == (("https://a.example",), ())
    assert (shares["kv"].ceiling, shares["kv"].granted) == (None, ("carts",))
    assert (shares["variables"].asked, shares["variables"].granted) == (("x",), ())
    assert set(shares) == {*Quotas.__struct_fields__, *Allow.__struct_fields__}


@pytest.mark.parametrize(
    ("allow", "waits"),
    [
        (Allow(), False),
        (Allow(variables=("a",), secrets=("b",)), False),
        (Allow(kv=("a",)), True),
        (Allow(fetch=("https://a.example",)), True),
        (Allow(llm=("*",)), True),
        (Allow(cache=True), True),
    ],
)
def test_which_functions_may_wait(allow: Allow, waits: bool) -> None:
    assert needs_waiting(Manifest(name="f", allow=allow)) is waits
