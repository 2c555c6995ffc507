import time
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache import config
from edgecache.clock import ManualClock
from edgecache.router.complexity import Complexity
from edgecache.router.demand import Feature
from edgecache.router.lengths import ANSWER
from edgecache.router.prompt import OVERHEAD
from edgecache.router.reader import COUNTED, NOWHERE, Reader
from edgecache.types import Call, Endpoint, ServiceClass, Tenant, Terms, Wishes

JUDGE = Path(__file__).parents[2] / "models" / "complexity" / "model.json"
VECTOR = np.full(384, 384**-0.5, np.float32)
PLACES = st.frozensets(st.sampled_from(["eu", "us", "ch"]))


class Words:
    """A vocabulary of words, that remembers how long the texts were."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def count(self, text: str) -> int:
        self.asked.append(len(text))
        return len(text.split())


def make_reader(*routes: config.Route, **settings: Any) -> Reader:
    chosen = {name: settings.pop(name) for name in ("complexity", "vocabularies") if name in settings}
    return Reader(config.Router(route=routes, **settings), clock=ManualClock(1000.0), **chosen)


def make_call(text: str = "hello", *, tenant: str = "t", model: str = "m", **fields: Any) -> Call:
    own = {name: fields.pop(name) for name in ("wishes", "headers", "stream", "upstream") if name in fields}
    terms = fields.pop("terms", Terms())
    endpoint = fields.pop("endpoint", Endpoint.CHAT)
    asked = {"prompt": text} if endpoint is Endpoint.COMPLETIONS else {"input": text}
    if endpoint is Endpoint.CHAT:
        asked = {"messages": [{"role": "user", "content": text}]}
    body = {"model": model, **asked, **fields}
    return Call("r", Tenant(tenant, terms=terms), endpoint, model, body, msgspec.json.encode(body), **own)


def judge() -> Complexity:
    return Complexity.read(JUDGE, "all-MiniLM-L6-v2", 384)


def test_a_prompt_is_a_quarter_of_its_bytes_before_anything_was_counted() -> None:
    demand = make_reader().demand(make_call("x" * 4000))
    assert demand.prompt_tokens == pytest.approx(1000 + OVERHEAD, abs=2)
    assert not demand.counted
    assert demand.output_tokens == ANSWER


def taught(reader: Reader, call: Call, prompt_tokens: int, completion_tokens: int) -> None:
    """An upstream counted these tokens for `call`."""
    reader.learn(call, reader.demand(call), prompt_tokens, completion_tokens)


@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_every_endpoint_is_read_and_taught(endpoint: Endpoint) -> None:
    reader = make_reader()
    call = make_call("word " * 400, endpoint=endpoint)
    before = reader.demand(call)
    for _ in range(100):
        taught(reader, call, 400 + OVERHEAD, 37)
    after = reader.demand(call)
    assert before.prompt_tokens == pytest.approx(500, abs=8)
    assert after.prompt_tokens == pytest.approx(400, abs=12)
    assert after.output_tokens == (0 if endpoint is Endpoint.EMBEDDINGS else 37)
    assert bool(after.prefixes) == (endpoint is not Endpoint.EMBEDDINGS)


def test_what_one_model_teaches_is_not_said_of_another() -> None:
    reader = make_reader()
    for _ in range(50):
        taught(reader, make_call("x" * 4000), 2000, 900)
    assert reader.demand(make_call("x" * 4000)).prompt_tokens > 1900
    assert reader.demand(make_call("x" * 4000, model="other")).prompt_tokens < 1100


@pytest.mark.parametrize(
    "other", [{"tenant": "u"}, {"model": "n"}, {"stream": True}, {"endpoint": Endpoint.COMPLETIONS}]
)
def test_lengths_of_answers_are_learned_by_tenant_model_endpoint_and_kind(other: dict[str, Any]) -> None:
    reader = make_reader()
    taught(reader, make_call(), 10, 900)
    assert reader.demand(make_call()).output_tokens == 900
    assert reader.demand(make_call(**other)).output_tokens == ANSWER


def test_an_answer_is_never_expected_to_be_longer_than_it_may_be() -> None:
    reader = make_reader()
    taught(reader, make_call(), 10, 900)
    demand = reader.demand(make_call(max_tokens=50))
    assert (demand.output_tokens, demand.limit) == (50, 50)
    assert reader.demand(make_call()).limit == 0


def test_several_answers_are_so_many_times_as_long() -> None:
    reader = make_reader()
    taught(reader, make_call(n=3), 10, 900)
    assert reader.demand(make_call()).output_tokens == 300
    assert reader.demand(make_call(n=2)).output_tokens == 600


def test_the_tokens_of_pictures_teach_nothing_about_text() -> None:
    reader = make_reader()
    call = make_call(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])
    assert reader.demand(call).features == Feature.VISION
    taught(reader, call, 50_000, 5)
    assert reader.demand(make_call("x" * 4000)).prompt_tokens < 1100


def test_counts_that_an_upstream_left_out_teach_nothing() -> None:
    reader = make_reader()
    taught(reader, make_call(), 0, 0)
    assert reader.demand(make_call("x" * 400)).prompt_tokens == pytest.approx(100 + OVERHEAD, abs=2)
    assert reader.demand(make_call()).output_tokens == ANSWER


def test_a_vocabulary_counts_what_is_short_and_long_prompts_go_by_the_ratio() -> None:
    words = Words()
    reader = make_reader(vocabularies={"m": words})
    demand = reader.demand(make_call("one two three"))
    assert demand.counted
    assert demand.prompt_tokens == 3 + 1 + OVERHEAD  # with the role
    long = reader.demand(make_call("x" * COUNTED))
    assert not long.counted
    assert long.prompt_tokens == pytest.approx(COUNTED / 4, abs=10)
    assert len(words.asked) == 1
    assert not reader.demand(make_call(model="other")).counted


def test_an_alias_is_counted_as_the_model_that_it_means() -> None:
    route = config.Route(model="alias", target=(config.RouteTarget(model="m"),))
    reader = make_reader(route, vocabularies={"m": Words()})
    assert reader.demand(make_call(model="alias")).counted


def test_token_ids_need_no_vocabulary() -> None:
    call = make_call(endpoint=Endpoint.COMPLETIONS)
    demand = make_reader().demand(msgspec.structs.replace(call, body={"prompt": [5, 6, 7]}))
    assert (demand.prompt_tokens, demand.counted) == (3, True)


async def test_any_text_can_be_counted_however_long() -> None:
    words = Words()
    reader = make_reader(vocabularies={"m": words})
    assert await reader.count("m", "one two") == 2
    assert await reader.count("m", "one " * 5000) == 5000
    assert await reader.count("other", "x" * 400) == 100
    assert words.asked == [7, 20_000]


@pytest.mark.parametrize("allowed", list(ServiceClass))
@pytest.mark.parametrize("wished", [None, *ServiceClass])
def test_a_request_can_only_ask_for_less_than_its_key_may_have(
    allowed: ServiceClass, wished: ServiceClass | None
) -> None:
    demand = make_reader().demand(make_call(terms=Terms(service=allowed), wishes=Wishes(service=wished)))
    assert demand.service.rank == max(allowed.rank, -1 if wished is None else wished.rank)


@given(PLACES, PLACES, st.none() | PLACES)
def test_a_residency_only_ever_gets_narrower_and_never_becomes_anywhere(
    default: frozenset[str], allowed: frozenset[str], wished: frozenset[str] | None
) -> None:
    call = make_call(terms=Terms(residency=allowed), wishes=Wishes(residency=wished))
    found = make_reader(residency=tuple(default)).demand(call).residency
    bound = allowed or default
    if not bound and wished is None:
        assert found == frozenset()
    else:
        assert found, "empty would mean anywhere"
        assert found == NOWHERE or (found <= (bound or found) and (wished is None or found <= wished))
    common = bound if wished is None else wished if not bound else bound & wished
    assert found == (common or (frozenset() if wished is None else NOWHERE))


def test_no_upstream_is_nowhere() -> None:
    demand = make_reader().demand(
        make_call(terms=Terms(residency=frozenset({"eu"})), wishes=Wishes(residency=frozenset({"us"})))
    )
    assert not demand.residency & {"eu", "us", ""}
    assert demand.residency


def test_a_deadline_counts_from_the_arrival_and_can_only_be_shortened() -> None:
    reader = make_reader()
    standard = config.Router().classes.standard.deadline
    batch = config.Router().classes.batch.deadline
    assert reader.demand(make_call()).due == 1000.0 + standard
    assert reader.demand(make_call(wishes=Wishes(arrived=990.0))).due == 990.0 + standard
    assert reader.demand(make_call(wishes=Wishes(arrived=0.0, deadline=2.5))).due == 2.5
    assert reader.demand(make_call(wishes=Wishes(arrived=0.0, deadline=inf))).due == standard
    assert reader.demand(make_call(wishes=Wishes(arrived=0.0, service=ServiceClass.BATCH))).due == batch


def test_a_session_is_the_conversation_of_one_tenant() -> None:
    assert make_reader().demand(make_call(headers={"x-session-id": "s1"})).sticky == b""  # there is nothing to choose
    reader = make_reader(config.Route(model="m", target=(config.RouteTarget(model="n"),)))
    plain = reader.demand(make_call())
    assert plain.session == b""
    assert plain.sticky == reader.demand(make_call()).sticky != reader.demand(make_call("other")).sticky
    named = [reader.demand(make_call(headers={name: "s1"})) for name in ("x-session-id", "x-session-affinity")]
    assert named[0].session == named[1].session == named[0].sticky != b""
    assert reader.demand(make_call("other", headers={"x-session-id": "s1"})).sticky == named[0].sticky
    assert reader.demand(make_call(tenant="u", headers={"x-session-id": "s1"})).session != named[0].session
    in_body = make_call(headers={"x-session-id": "s2"}, conversation_params={"conversation_id": "s1"})
    assert reader.demand(in_body).session == named[0].session
    odd = make_call(headers={"x-session-id": "", "x-correlation-id": "\udcff"})
    assert reader.demand(odd).session != b""


@pytest.mark.parametrize("other", [{"tenant": "u"}, {"model": "n"}, {"lora_request": {"lora_name": "law"}}])
def test_prefixes_of_other_tenants_models_and_adapters_are_others(other: dict[str, Any]) -> None:
    reader = make_reader()
    mine, theirs = reader.demand(make_call()), reader.demand(make_call(**other))
    assert {each.digest for each in mine.prefixes}.isdisjoint(each.digest for each in theirs.prefixes)
    assert reader.demand(make_call()).prefixes == mine.prefixes


def test_the_rest_is_handed_on() -> None:
    call = make_call(
        terms=Terms(weight=3.0),
        wishes=Wishes(hops=1),
        upstream="b",
        stream=True,
        lora_request={"lora_name": "law"},
        tools=[{"type": "function"}],
    )
    demand = make_reader().demand(call)
    assert (demand.model, demand.tenant, demand.stream, demand.hops) == ("m", "t", True, 1)
    assert (demand.weight, demand.function, demand.lora, demand.features) == (3.0, "b", "law", Feature.TOOLS)
    assert demand.budget == inf


SMALL = config.Route(model="m", small=config.SmallModel(model="s"))


def test_a_question_is_judged_where_a_route_asks_for_it() -> None:
    reader = make_reader(SMALL, complexity=judge())
    assert reader.demand(make_call(), VECTOR).easy == pytest.approx(judge().probability(VECTOR))
    assert reader.demand(make_call()).easy is None
    assert reader.demand(make_call(model="other"), VECTOR).easy is None
    assert make_reader(SMALL).demand(make_call(), VECTOR).easy is None


def test_the_first_route_that_matches_decides_whether_a_question_is_judged() -> None:
    own = config.Route(model="m", tenant="t")
    assert make_reader(own, SMALL, complexity=judge()).demand(make_call(), VECTOR).easy is None
    assert make_reader(SMALL, own, complexity=judge()).demand(make_call(), VECTOR).easy is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_object"}},
        {"messages": [{"role": role, "content": "x"} for role in ("user", "assistant", "user")]},
    ],
)
def test_only_single_questions_in_plain_text_are_judged(fields: dict[str, Any]) -> None:
    assert make_reader(SMALL, complexity=judge()).demand(make_call(**fields), VECTOR).easy is None


def test_what_was_learned_outlives_new_settings() -> None:
    reader = make_reader(SMALL, complexity=judge(), vocabularies={"m": Words()})
    taught(reader, make_call(), 10, 900)
    reader.replace(config.Router(residency=("eu",)))
    demand = reader.demand(make_call(), VECTOR)
    assert (demand.output_tokens, demand.residency) == (900, frozenset({"eu"}))
    assert (demand.easy, demand.counted) == (None, False)


def test_reading_a_request_of_a_kilobyte_takes_microseconds() -> None:
    reader = make_reader(SMALL, complexity=judge())
    call = make_call("a sentence of some words " * 40)
    took = []
    for _ in range(300):
        began = time.perf_counter()
        reader.demand(call, VECTOR)
        took.append(time.perf_counter() - began)
    assert min(took) < 60e-6


def test_the_gpu_that_a_route_asks_for_is_part_of_the_demand() -> None:
    demand = make_reader(config.Route(model="m", gpu="H100", gpu_memory=80)).demand(make_call())
    assert (demand.gpu, demand.gpu_memory) == ("H100", 80)
    assert (make_reader().demand(make_call()).gpu, make_reader().demand(make_call()).gpu_memory) == ("", 0)
