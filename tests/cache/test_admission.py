from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.cache import admission
from edgecache.cache.admission import OPEN, SECOND_SIGHTING, WRITER_RATE, Rates, admit, is_second
from edgecache.config import Admission
from edgecache.types import Call, Endpoint, Entry, Tenant
from tests.cache.conftest import entry_of

STRICT = Admission(second_sighting=True)


def call(key: str = "", tenant: str = "acme", **body: Any) -> Call:
    return Call("r", Tenant(tenant, writer=key), Endpoint.CHAT, "m", body, b"")


def writer(of: Call) -> str:
    return admission.writer(of, Admission(writer="end_user"))


def test_behind_a_key_an_end_user_counts_only_where_the_operator_trusts_the_client_to_name_it() -> None:
    assert admission.writer(call("3f9a", user="ann"), Admission()) == "3f9a"
    assert admission.writer(call(user="ann"), Admission()) == writer(call(user="ann")) != ""


def test_a_writer_is_the_key_and_the_end_user_as_far_as_they_are_known() -> None:
    assert writer(call()) == ""
    assert writer(call("3f9a")) == "3f9a"
    assert writer(call("3f9a", user="ann")).startswith("3f9a.")
    assert writer(call(user="ann")).startswith(".")


def test_a_writer_does_not_hold_what_it_names() -> None:
    assert "ann" not in writer(call("3f9a", user="ann@example.org"))
    assert len(writer(call("3f9a", user="ann@example.org"))) == len("3f9a.") + 16


def test_the_safety_identifier_comes_before_the_user() -> None:
    assert writer(call(safety_identifier="ann", user="x")) == writer(call(user="ann"))
    assert writer(call(safety_identifier="", user="ann")) == writer(call(user="ann"))


def test_one_person_at_two_tenants_has_two_names() -> None:
    assert writer(call(user="ann")) != writer(call(tenant="other", user="ann"))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=2)))
def test_any_value_of_user_gives_a_name_of_the_same_form(user: Any) -> None:
    key, _, name = writer(call("3f9a", user=user)).partition(".")
    assert key == "3f9a"
    assert name == "" or (len(name) == 16 and set(name) <= set("0123456789abcdef"))


@pytest.mark.parametrize(
    ("first", "asker", "second"),
    [
        ("k1", "k2", True),
        ("k1", "k1", False),
        ("k1.u1", "k2.u1", True),
        ("k1.u1", "k1.u2", True),
        ("k1.u1", "k1.u1", False),
        ("k1.u1", "k1", False),  # with that key anyone, also u1
        ("k1", "k1.u1", False),
        (".u1", ".u2", True),
        (".u1", ".u1", False),
        ("", "", True),  # nobody has a name: a second request is all there is
        (".u1", "", True),
        ("", ".u1", True),
        ("", "k1", True),
    ],
)
def test_a_second_sighting_needs_somebody_else_where_anybody_can_be_told_apart(first, asker, second) -> None:
    assert is_second(first, asker) is second


@given(st.sampled_from(["", "k1", "k2"]), st.sampled_from(["", ".u1", ".u2"]))
def test_no_writer_with_a_name_is_a_second_to_itself(key: str, user: str) -> None:
    if key + user:
        assert not is_second(key + user, key + user)


def held(settings: Admission, name: str, earlier: Entry | None = None) -> str:
    return admit(settings, name, earlier, Rates(), 0.0)[0]


def test_an_answer_waits_only_where_it_is_asked_for_and_nothing_speaks_for_its_question() -> None:
    assert held(OPEN, "k1") == ""
    assert held(STRICT, "k1") == held(STRICT, "") == SECOND_SIGHTING
    waiting = entry_of("q", writer="k1", held=SECOND_SIGHTING)
    assert held(STRICT, "k1", waiting) == SECOND_SIGHTING
    assert held(STRICT, "k2", waiting) == ""
    assert held(STRICT, "k1", entry_of("q", writer="k1", held=WRITER_RATE)) == SECOND_SIGHTING


def test_what_was_let_in_stays_in_whoever_renews_it_and_however_much_they_have() -> None:
    settings, rates = Admission(second_sighting=True, max_entries_per_writer=5, max_fills_per_minute=1), Rates()
    for _ in range(3):
        assert admit(settings, "k1", entry_of("q", writer="k1"), rates, 0.0) == ("", 5)
        assert admit(settings, "k1", entry_of("q", writer="k2"), rates, 0.0) == ("", 0)
    assert admit(settings, "k1", entry_of("q", writer="k2", held=SECOND_SIGHTING), rates, 0.0) == ("", 5)
    assert admit(settings, "k1", entry_of("q", writer="k2", held=SECOND_SIGHTING), rates, 0.0) == (WRITER_RATE, 5)


def test_an_answer_that_was_never_to_be_compared_speaks_for_nothing() -> None:
    assert held(STRICT, "k1", entry_of("q", writer="k1", text=None)) == SECOND_SIGHTING


def test_who_has_no_name_counts_against_no_limit() -> None:
    settings = Admission(max_entries_per_writer=5, max_fills_per_minute=1)
    assert [admit(settings, "", None, Rates(), 0.0) for _ in range(3)] == [("", 0)] * 3


@given(
    limit=st.integers(1, 50),
    steps=st.lists(st.floats(0, 30), min_size=1, max_size=200),
)
def test_no_stretch_of_time_sees_more_than_the_burst_and_what_came_in_meanwhile(limit: int, steps: list[float]) -> None:
    rates, now, taken = Rates(), 0.0, []
    for step in steps:
        now += step
        if rates.take("k1", limit, now):
            taken.append(now)
    for i, start in enumerate(taken):
        for j in range(i, len(taken)):
            assert j - i + 1 <= limit + (taken[j] - start) * limit / 60 + 1e-6


@given(st.integers(1, 50))
def test_a_bucket_gives_its_burst_and_fills_up_again_within_a_minute(limit: int) -> None:
    rates = Rates()
    assert [rates.take("k1", limit, 5.0) for _ in range(limit + 1)] == [True] * limit + [False]
    assert [rates.take("k1", limit, 65.0) for _ in range(limit + 1)] == [True] * limit + [False]


def test_each_writer_has_a_bucket_of_its_own_and_who_has_no_name_has_no_limit() -> None:
    rates = Rates()
    assert rates.take("k1", 1, 0.0)
    assert rates.take("k2", 1, 0.0)
    assert not rates.take("k1", 1, 0.0)
    assert all(rates.take("", 1, 0.0) for _ in range(10))
    assert all(rates.take("k1", 0, 0.0) for _ in range(10))


def test_a_limit_that_was_lowered_holds_at_once_and_a_clock_that_stands_still_gives_nothing() -> None:
    rates = Rates()
    assert rates.take("k1", 100, 0.0)
    assert [rates.take("k1", 1, 0.0) for _ in range(3)] == [True, False, False]
    assert not rates.take("k1", 1, -5.0)


def test_the_memory_of_writers_is_bounded() -> None:
    rates = Rates(remembered=10)
    for number in range(1000):
        assert rates.take(f"k{number}", 1, 0.0)
    assert len(rates) == 10
    assert not rates.take("k999", 1, 0.0)
