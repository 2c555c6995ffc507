from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.config import Mirror, Route, RouteTarget, SmallModel
from edgecache.router.routes import Leg, legs, match, mirror, names, small

SMALL = SmallModel(model="tiny", probability=0.9)
SPLIT = Route(model="chat", target=(RouteTarget(model="old", weight=3), RouteTarget(model="new", weight=1)))


def asked(routes, model="chat", tenant="t", sticky=b"q", easy=None):
    return legs(routes, model, tenant, sticky, easy)


def test_a_model_without_a_route_is_itself() -> None:
    assert asked((SPLIT,), model="other") == (Leg("other", keep=True, small=False, why="asked"),)


def test_an_alias_is_its_target_then_what_stands_in_for_it() -> None:
    route = Route(model="chat", target=(RouteTarget(model="real"),), fallback=("spare", "last"))
    assert asked((route,)) == (
        Leg("real", keep=True, small=False, why="target"),
        Leg("spare", keep=False, small=False, why="fallback"),
        Leg("last", keep=False, small=False, why="fallback"),
    )


def test_a_route_without_targets_only_adds_to_the_model_itself() -> None:
    assert [leg.why for leg in asked((Route(model="chat", fallback=("spare",)),))] == ["asked", "fallback"]


def test_a_small_model_goes_first_only_where_the_question_is_known_to_be_easy_enough() -> None:
    route = Route(model="chat", small=SMALL)
    assert asked((route,), easy=0.9)[0] == Leg("tiny", keep=True, small=True, why="small")
    assert [leg.model for leg in asked((route,), easy=0.9)] == ["tiny", "chat"]
    assert [leg.model for leg in asked((route,), easy=0.89)] == ["chat"]
    assert [leg.model for leg in asked((route,), easy=None)] == ["chat"]


def test_the_first_route_that_matches_holds() -> None:
    own = Route(model="chat", tenant="t", target=(RouteTarget(model="own"),), mirror=Mirror(model="next"))
    rest = Route(model="chat", target=(RouteTarget(model="all"),), small=SMALL)
    assert asked((own, rest))[0].model == "own"
    assert asked((own, rest), tenant="other")[0].model == "all"
    assert asked((rest, own))[0].model == "all"
    assert mirror((own, rest), "chat", "t") == Mirror(model="next")
    assert mirror((own, rest), "chat", "other") is None
    assert small((own, rest), "chat", "other") == SMALL
    assert small((own, rest), "chat", "t") is None
    assert small((own, rest), "else", "t") is None


def test_each_model_is_tried_once_where_it_stands_first() -> None:
    route = Route(model="chat", target=(RouteTarget(model="tiny"),), small=SMALL, fallback=("tiny", "chat"))
    assert [(leg.model, leg.why) for leg in asked((route,), easy=1.0)] == [("tiny", "small"), ("chat", "fallback")]


def questions(count):
    return [b"question %d" % number for number in range(count)]


def test_targets_get_their_share_of_the_questions() -> None:
    first = Counter(asked((SPLIT,), sticky=each)[0].model for each in questions(4000))
    assert first["old"] / 4000 == pytest.approx(0.75, abs=0.03)


def test_a_larger_canary_takes_questions_from_the_others_and_moves_no_other() -> None:
    larger = Route(model="chat", target=(RouteTarget(model="old", weight=3), RouteTarget(model="new", weight=2)))
    moves = {(asked((SPLIT,), sticky=q)[0].model, asked((larger,), sticky=q)[0].model) for q in questions(500)}
    assert moves == {("old", "old"), ("new", "new"), ("old", "new")}


weights = st.lists(st.floats(0.01, 100), min_size=1, max_size=5)


@given(weights, st.binary(max_size=40), st.floats(0, 1) | st.none())
def test_the_same_question_always_gets_the_same_models_and_all_of_them(given_weights, sticky, easy) -> None:
    targets = tuple(RouteTarget(model=f"m{i}", weight=weight) for i, weight in enumerate(given_weights))
    route = Route(model="chat", target=targets, small=SMALL, fallback=("spare",))
    found = asked((route,), sticky=sticky, easy=easy)
    assert found == asked((route,), sticky=sticky, easy=easy)
    assert Counter(leg.why for leg in found)["target"] == len(targets)
    assert sorted(leg.model for leg in found if leg.why == "target") == sorted(each.model for each in targets)
    assert [leg.keep for leg in found] == [leg.why != "fallback" for leg in found]


def test_names_are_those_that_get_a_meaning_for_the_tenant() -> None:
    routes = (
        Route(model="chat", target=(RouteTarget(model="real"),)),
        Route(model="chat", target=(RouteTarget(model="other"),)),
        Route(model="theirs", tenant="them", target=(RouteTarget(model="real"),)),
        Route(model="safe", fallback=("real",)),
        Route(model="watched", mirror=Mirror(model="next")),
    )
    assert names(routes, "t") == ("chat", "safe")
    assert names(routes, "them") == ("chat", "theirs", "safe")


def test_the_first_route_for_the_model_and_the_tenant_holds() -> None:
    chosen = (Route(model="m", tenant="lab", gpu="H100"), Route(model="m"), Route(model="m", gpu="A100"))
    assert match(chosen, "m", "lab") is chosen[0]
    assert match(chosen, "m", "other") is chosen[1]
    assert match(chosen, "n", "lab") is None
    assert match((), "m", "lab") is None
