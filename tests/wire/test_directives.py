from collections.abc import Mapping
from contextlib import suppress
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from edgecache.errors import BadRequest
from edgecache.types import Controls, Mode
from edgecache.wire import directives
from edgecache.wire.directives import MAX_TAGS, headers, upstream_lifetime


def controls(fields: Mapping[str, str]) -> Controls:
    return directives.controls(CIMultiDict(fields))


def test_headers_that_say_nothing_about_caching_mean_the_defaults() -> None:
    assert controls({"accept": "*/*"}) == Controls()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("no-cache", Controls(no_cache=True)),
        ("No-Store , ONLY-IF-CACHED", Controls(no_store=True, only_if_cached=True)),
        ("max-age=60, min-fresh=5", Controls(max_age=60, min_fresh=5)),
        ('max-age="60"', Controls(max_age=60)),
        ("max-age = 60", Controls(max_age=60)),
        ("max-stale", Controls(max_stale=inf)),
        ("max-stale=30", Controls(max_stale=30)),
        ("max-stale, max-stale=30", Controls(max_stale=30)),
        ("max-stale=30, max-stale", Controls(max_stale=30)),
        ("max-age=60, max-age=5", Controls(max_age=5)),
        ("min-fresh=5, min-fresh=60", Controls(min_fresh=60)),
        ("max-age=0", Controls(max_age=0)),
        ("no-transform, foo=bar, stale-if-error=5", Controls()),
        ('foo="max-age=1, no-store", no-cache', Controls(no_cache=True)),
        ("", Controls()),
        (",,;=", Controls()),
    ],
)
def test_cache_control_is_read_as_rfc_9111_says(value: str, expected: Controls) -> None:
    assert controls({"Cache-Control": value}) == expected


@pytest.mark.parametrize(
    "value", ["max-age", "max-age=", "max-age=-1", "max-age=soon", "max-age=1.5", "min-fresh=1 2", "max-stale=x"]
)
def test_a_cache_control_number_that_is_none_is_refused_by_name(value: str) -> None:
    with pytest.raises(BadRequest, match="`Cache-Control`") as caught:
        controls({"cache-control": value})
    assert caught.value.param == "Cache-Control"


def test_the_edgecache_fields_are_read() -> None:
    assert controls(
        {
            "EdgeCache-Mode": "Exact",
            "edgecache-ttl": "90.5",
            "EDGECACHE-THRESHOLD": "0.97",
            "EdgeCache-Namespace": "team/a",
            "EdgeCache-Tags": "docs, faq  docs,v2",
        }
    ) == Controls(mode=Mode.EXACT, ttl=90.5, threshold=0.97, namespace="team/a", tags=("docs", "faq", "v2"))


@pytest.mark.parametrize("mode", list(Mode))
def test_every_mode_can_be_asked_for(mode: Mode) -> None:
    assert controls({"edgecache-mode": mode.value}).mode is mode


def test_an_empty_field_is_no_field() -> None:
    assert controls({"EdgeCache-Namespace": " ", "EdgeCache-Mode": ""}) == Controls()


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("EdgeCache-Mode", "fast"),
        ("EdgeCache-TTL", "-1"),
        ("EdgeCache-TTL", "nan"),
        ("EdgeCache-TTL", "1e9"),
        ("EdgeCache-TTL", "\N{ARABIC-INDIC DIGIT ONE}"),
        ("EdgeCache-Threshold", "1.01"),
        ("EdgeCache-Threshold", "inf"),
        ("EdgeCache-Namespace", "a b"),
        ("EdgeCache-Namespace", "x" * 129),
        ("EdgeCache-Tags", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("EdgeCache-Tags", " ".join(map(str, range(MAX_TAGS + 1)))),
        ("EdgeCache-Tags", "x" * 129),
    ],
)
def test_a_bad_value_is_refused_and_names_its_header(header: str, value: str) -> None:
    with pytest.raises(BadRequest, match=f"`{header}`") as caught:
        controls({header: value})
    assert caught.value.param == header


def test_repeated_fields_of_a_multi_dict_count_together() -> None:
    headers = CIMultiDict([("Cache-Control", "no-cache"), ("cache-control", "max-age=9"), ("EdgeCache-Tags", "a")])
    headers.add("edgecache-tags", "b")
    assert directives.controls(headers) == Controls(no_cache=True, max_age=9, tags=("a", "b"))


def test_a_client_may_promise_that_what_it_refers_to_does_not_change() -> None:
    assert controls({"Cache-Control": "max-age=60, immutable"}) == Controls(max_age=60.0, immutable=True)


def test_two_different_modes_are_refused() -> None:
    with pytest.raises(BadRequest, match="EdgeCache-Mode"):
        directives.controls(CIMultiDict([("EdgeCache-Mode", "exact"), ("EdgeCache-Mode", "bypass")]))


@given(st.text(alphabet=st.sampled_from('max-age=max-stale"\\, ;0123é'), max_size=60))
def test_no_cache_control_raises_anything_but_bad_request(value: str) -> None:
    with suppress(BadRequest):
        assert isinstance(controls({"Cache-Control": value}), Controls)


@pytest.mark.parametrize("text", ['a="\\' * 20_000, 'a=\\"' * 20_000, "a" + " " * 60_000, '="' * 30_000])
@pytest.mark.timeout(10)  # a regular expression that backtracks would take minutes
def test_long_nonsense_is_ignored_at_once(text: str) -> None:
    assert controls({"Cache-Control": text}) == Controls()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({}, None, id="nothing said"),
        pytest.param({"Cache-Control": "no-cache"}, None, id="meant for browsers"),
        pytest.param({"Cache-Control": "max-age=5"}, None, id="untargeted lifetimes do not count"),
        pytest.param({"Cache-Control": "no-store"}, 0.0, id="never"),
        pytest.param({"cache-control": "Private, max-age=5"}, 0.0, id="private"),
        pytest.param({"CDN-Cache-Control": "max-age=60"}, 60.0, id="for CDNs"),
        pytest.param({"CDN-Cache-Control": "no-cache"}, 0.0, id="CDNs would have to revalidate"),
        pytest.param({"CDN-Cache-Control": "max-age=x"}, None, id="not a number"),
        pytest.param({"CDN-Cache-Control": "max-age=60", "Cache-Control": "no-store"}, 60.0, id="targeted wins"),
        pytest.param(
            {"EdgeCache-CDN-Cache-Control": "no-store", "CDN-Cache-Control": "max-age=60"}, 0.0, id="ours wins"
        ),
    ],
)
def test_an_upstream_says_for_how_long_its_answer_may_be_kept(headers: dict[str, str], expected: float | None) -> None:
    assert upstream_lifetime(headers) == expected


WHOLE = st.none() | st.integers(0, 10**10 - 1).map(float)
DECIMAL = st.none() | st.integers(0, 10**12).map(lambda number: number / 1000)
WORDS = st.text("abcXYZ019._:/-", min_size=1, max_size=20)


@given(
    st.builds(
        Controls,
        mode=st.sampled_from(Mode),
        no_cache=st.booleans(),
        no_store=st.booleans(),
        only_if_cached=st.booleans(),
        immutable=st.booleans(),
        max_age=WHOLE,
        min_fresh=WHOLE,
        max_stale=WHOLE | st.just(inf),
        ttl=DECIMAL,
        threshold=st.none() | st.integers(0, 10**10).map(lambda number: number / 10**10),
        namespace=st.just("") | WORDS,
        tags=st.lists(WORDS, max_size=4, unique=True).map(tuple),
    )
)
def test_what_is_said_again_is_read_as_the_same(given_controls: Controls) -> None:
    assert controls(headers(given_controls)) == given_controls


def test_who_says_nothing_says_nothing_again() -> None:
    assert headers(Controls()) == {}


@given(st.floats(0, 1e10), st.floats(0, 1))
def test_any_number_that_was_understood_can_be_said_again(ttl: float, threshold: float) -> None:
    again = controls(headers(Controls(ttl=ttl, threshold=threshold)))
    assert again.ttl == pytest.approx(ttl, rel=1e-9, abs=1e-9)
    assert again.threshold == pytest.approx(threshold, abs=1e-9)
