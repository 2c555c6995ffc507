"""Whether two answers say the same. The embedder is a real one, MiniLM where meaning matters; the judge is scripted."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.clock import SystemClock
from edgecache.config import Embed, Learning, Upstream
from edgecache.embed import open_embedder
from edgecache.embed.batcher import Batcher
from edgecache.pipeline.agreement import Agreement, Comparer, contradict, pieces, plain
from edgecache.telemetry.metrics import Metrics
from tests.conftest import MODEL, Pop, call

QUESTION = "How high is the tower?"
DOSE = "Take five milligrams of the medicine each morning, with a glass of water and something to eat."


def body(text: str | None, **message: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
    return orjson.dumps({"object": "chat.completion", "choices": [choice]})


async def said(pop: Pop, one: str | None, other: str | None, learning: Learning | None = None) -> Agreement:
    comparer = Comparer(pop.daemon.embedder, pop.daemon.broker.dispatcher)
    return await comparer.compare(call(QUESTION), QUESTION, body(one), body(other), learning or Learning())


async def test_the_same_words_agree_whatever_their_case_spacing_and_emphasis(pop: Pop) -> None:
    assert await said(pop, "**330 metres**.", "330  Metres") == Agreement(right=True, by="text")


async def test_answers_with_nothing_in_common_differ(pop: Pop) -> None:
    found = await said(pop, "It is three hundred metres high.", "Boil both potatoes slowly until soft.")
    assert found == Agreement(right=False, by="meaning")


async def test_near_answers_agree_unless_a_number_or_a_negation_differs(pop: Pop) -> None:
    assert (await said(pop, DOSE, DOSE.replace("the medicine", "this medicine"))).right
    assert await said(pop, DOSE, DOSE.replace("five", "fifty")) == Agreement(None, "unclear")
    assert await said(pop, DOSE, DOSE.replace("Take", "Never take")) == Agreement(None, "unclear")


async def test_what_lies_between_stays_open(pop: Pop) -> None:
    strict = Learning(agree=0.9999, differ=0.1)
    assert await said(pop, "The tower is high.", "The tower is rather high.", strict) == Agreement(None, "unclear")


@pytest.mark.parametrize("empty", [None, "", "  "])
async def test_an_answer_without_text_teaches_nothing(pop: Pop, empty: str | None) -> None:
    assert (await said(pop, empty, "330 metres")).right is None


async def test_answers_longer_than_what_is_compared_stay_open(pop: Pop) -> None:
    long = " ".join(f"Sentence {n} of a long story about towers." for n in range(400))
    assert await said(pop, long, long + " And one more.") == Agreement(None, "too-long")


async def test_an_embedder_that_is_gone_leaves_it_open(pop: Pop) -> None:
    pop.daemon.embedder.close()
    assert await said(pop, "a tower", "a hill") == Agreement(None, "embedder")


# The scripted core knows no yes and no; this one says what the test wants.
@pytest.fixture
async def judge(unused_tcp_port: int):
    from aiohttp import web

    class Judge:
        def __init__(self) -> None:
            self.url = f"http://127.0.0.1:{unused_tcp_port}"
            self.word: str | None = "Yes."
            self.asked: dict[str, Any] = {}

        async def chat(self, request: web.Request) -> web.Response:
            self.asked = await request.json()
            if self.word is None:
                return web.json_response({"error": {"message": "busy"}}, status=503)
            return web.Response(body=body(self.word), content_type="application/json")

    made = Judge()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", made.chat)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    yield made
    await runner.cleanup()


@pytest.mark.parametrize(
    ("word", "right", "by"),
    [
        ("yes", True, "judge"),
        ("No.", False, "judge"),
        (" **YES**", True, "judge"),
        ("Yesterday", None, "judge-silent"),
        ("I cannot say", None, "judge-silent"),
        (None, None, "judge-silent"),
    ],
)
async def test_the_judge_decides_what_words_and_meaning_leave_open(
    start_pop, judge, word: str | None, right: bool | None, by: str
) -> None:
    judge.word = word
    wise = Upstream(name="judge", url=judge.url, dialect="vllm", models=("wise",))
    pop = await start_pop(judge.url, upstream=(wise,))
    learning = Learning(judge="wise", agree=0.9999, differ=0.1)
    found = await said(pop, "The tower is high.", "The tower is rather high.", learning)
    assert found == Agreement(right, by)
    assert (judge.asked["model"], judge.asked["temperature"]) == ("wise", 0)
    told = orjson.loads(judge.asked["messages"][1]["content"])
    assert told == {"question": QUESTION, "a": "The tower is high.", "b": "The tower is rather high."}


async def test_a_judge_that_no_upstream_serves_is_silent(pop: Pop) -> None:
    learning = Learning(judge="nobody", agree=0.9999, differ=0.1)
    assert await said(pop, "The tower is high.", "The tower is rather high.", learning) == Agreement(
        None, "judge-silent"
    )
    assert MODEL != "nobody"


@pytest.mark.model
@pytest.mark.parametrize(
    ("one", "other", "right"),
    [
        ("Paris is the capital of France.", "The capital of France is Paris.", True),
        ("Paris is the capital of France.", "To bake bread you need flour, water, salt and yeast.", False),
        ("It was built in 1889 for the World's Fair.", "It was built in 1989 for the World's Fair.", None),
    ],
)
async def test_real_sentences_are_told_apart_by_the_shipped_embedder(one: str, other: str, right: bool | None) -> None:
    batcher = Batcher(open_embedder(Embed()), Embed(deadline=10.0), Metrics(), SystemClock())
    batcher.start()
    try:
        dispatcher: Any = None  # without a judge nobody is asked
        comparer = Comparer(batcher, dispatcher)
        found = await comparer.compare(call(QUESTION), QUESTION, body(one), body(other), Learning())
    finally:
        batcher.close()
    assert found.right is right


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=900))
def test_pieces_hold_all_of_a_text_but_the_space_between_sentences_and_fit(text: str) -> None:
    found = pieces(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(0 < len(piece) <= 240 for piece in found)


def test_short_sentences_share_a_piece_and_long_ones_are_cut() -> None:
    assert pieces("One. Two! Three?\nFour") == ["One. Two! Three? Four"]
    assert [len(piece) for piece in pieces("x" * 500)] == [240, 240, 20]


def test_only_what_does_not_change_the_meaning_is_left_out_of_the_comparison() -> None:
    assert plain("**No**, `x` is  5.") == plain("no, X is 5")
    assert plain("no") != plain("yes")
    assert plain("-5") != plain("5")
    assert contradict("5 mg", "50 mg")
    assert not contradict("It is five.", "It is 5.")
