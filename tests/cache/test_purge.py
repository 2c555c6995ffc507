import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.cache.purge import Kind, Selector, parse, split_tags
from edgecache.errors import BadRequest


@pytest.mark.parametrize(
    ("body", "selectors"),
    [
        ({"all": True}, [Selector(Kind.ALL)]),
        ({"tenant": "acme"}, [Selector(Kind.TENANT, "acme")]),
        ({"all": True, "tenant": "acme"}, [Selector(Kind.TENANT, "acme")]),
        ({"namespace": "docs"}, [Selector(Kind.NAMESPACE, "docs")]),
        ({"namespace": "docs", "tenant": "acme"}, [Selector(Kind.NAMESPACE, "docs", "acme")]),
        ({"model": "m"}, [Selector(Kind.MODEL, "m")]),
        ({"tag": "a"}, [Selector(Kind.TAG, "a")]),
        ({"tags": ["a", "b"], "tenant": "t"}, [Selector(Kind.TAG, "a", "t"), Selector(Kind.TAG, "b", "t")]),
        ({"writer": "3f9a.b2"}, [Selector(Kind.WRITER, "3f9a.b2")]),
        ({"writer": "3f9a", "tenant": "t"}, [Selector(Kind.WRITER, "3f9a", "t")]),
        ({"entry": 7}, [Selector(Kind.ENTRY, "7")]),
        ({"entry": "007"}, [Selector(Kind.ENTRY, "7")]),
        ({"entries": ["7", 8]}, [Selector(Kind.ENTRY, "7"), Selector(Kind.ENTRY, "8")]),
        ({"tag": "a", "model": "m"}, [Selector(Kind.MODEL, "m"), Selector(Kind.TAG, "a")]),
    ],
)
def test_each_field_becomes_a_selector(body, selectors) -> None:
    assert parse(body) == (selectors, False)
    if not body.get("all"):
        assert parse(body | {"soft": True}) == (selectors, True)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "nothing to purge"),
        ({"soft": True}, "nothing to purge"),
        ({"all": False}, "nothing to purge"),
        ({"tags": []}, "nothing to purge"),
        ({"all": True, "soft": True}, "cannot be soft"),
        ({"tagz": ["a"]}, "unknown field `tagz`"),
        ({"tags": "a"}, "must be a list"),
        ({"tags": [1]}, "must be a string"),
        ({"tag": ""}, "must be a string"),
        ({"writer": ""}, "must be a string"),
        ({"tag": "x" * 1025}, "must be a string"),
        ({"entry": -1}, "entry ids"),
        ({"entry": True}, "entry ids"),
        ({"entry": "1; drop"}, "entry ids"),
        ({"entry": "٣"}, "entry ids"),
        ({"all": 1}, "true or false"),
        ({"namespace": None, "model": 3}, "must be a string"),
        ({"entries": list(range(300))}, "at most 256"),
    ],
)
def test_what_is_wrong_is_named(body, word) -> None:
    with pytest.raises(BadRequest, match=word):
        parse(body)


def test_a_tenant_of_its_own_reaches_its_own_answers_only() -> None:
    assert parse({"all": True}, tenant="acme") == ([Selector(Kind.TENANT, "acme")], False)
    assert parse({"tag": "t"}, tenant="acme") == ([Selector(Kind.TAG, "t", "acme")], False)
    assert parse({"entry": 3, "tenant": "acme"}, tenant="acme") == ([Selector(Kind.ENTRY, "3", "acme")], False)
    for body in ({"tenant": "other"}, {"tenant": "other", "tag": "t"}):
        with pytest.raises(BadRequest, match="your own tenant"):
            parse(body, tenant="acme")


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
)


@given(st.dictionaries(st.sampled_from(["all", "tenant", "tag", "tags", "entry", "entries", "soft", "x"]), json))
def test_any_body_is_selectors_of_the_tenant_or_a_bad_request(body) -> None:
    try:
        selectors, _ = parse(body, tenant="acme")
    except BadRequest:
        return
    assert selectors
    assert all("acme" in (s.tenant, s.value) for s in selectors)


def test_tags_are_split_as_surrogate_key_and_cache_tag_write_them() -> None:
    assert split_tags("a b  c") == split_tags("a,b, c,") == ["a", "b", "c"]
    assert split_tags(" ") == []
