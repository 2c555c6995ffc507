"""What functions get from this POP's own embedder, cache and upstream."""

import json

import msgspec
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from edgecache.clock import SystemClock
from edgecache.errors import Forbidden
from edgecache.functions.answers import Options
from edgecache.functions.context import Context
from edgecache.functions.manifest import Bind, Phase
from edgecache.functions.phases import Rules
from edgecache.pipeline.inference import LocalAnswers
from edgecache.types import CacheStatus, Tenant
from edgecache.wasm.hostcalls import Code, HostRefused
from tests.conftest import MODEL, Pop, read
from tests.puppet import deploy

QUESTION = "What is tea?"
SPIN = Options(max_tokens=100, repeat_penalty=1.1, repeat_last_n=64, temperature=0.8, top_k=40, top_p=0.9)
CONTEXT = Context(Tenant("acme"), Phase.ROUTE, 1e12, "req-1")


def admit(_tenant: Tenant, model: str) -> None:
    if model == "forbidden":
        raise Forbidden("The model does not exist or you do not have access to it.")


@pytest.fixture
def answers(pop: Pop) -> LocalAnswers:
    made = LocalAnswers(pop.daemon.embedder, Rules(admit, 64, 2048), clock=SystemClock())
    made.attach(pop.daemon.pipeline)
    return made


async def refused(work) -> tuple[Code, str]:
    with pytest.raises(HostRefused) as caught:
        await work
    return caught.value.code, caught.value.message


async def test_a_prompt_is_answered_and_metered_and_then_comes_from_the_cache(pop: Pop, core, answers) -> None:
    first = await answers.infer(CONTEXT, MODEL, QUESTION, Options())
    await pop.settled()
    asked = core.seen.requests
    again = await answers.infer(CONTEXT, MODEL, "what is tea", SPIN)
    assert again == first
    assert core.seen.requests == asked
    assert first.text
    assert (first.prompt_tokens, first.completion_tokens) > (0, 0)


async def test_the_answer_is_that_of_the_same_question_from_a_client_of_the_tenant(pop: Pop, answers) -> None:
    said = json.loads(await read(await pop.ask(QUESTION, tenant="acme")))["choices"][0]["message"]["content"]
    await pop.settled()
    assert (await answers.infer(CONTEXT, MODEL, QUESTION, SPIN)).text == said
    other = Context(Tenant("other"), Phase.ROUTE, 1e12)
    assert await answers.lookup(other, MODEL, QUESTION) is None


async def test_what_the_developer_asked_for_goes_upstream(pop: Pop, core, answers) -> None:
    found = await answers.infer(CONTEXT, MODEL, QUESTION, Options(max_tokens=3, temperature=0.1, top_p=0.5))
    assert found.completion_tokens <= 3
    sent = core.seen.body
    assert (sent["max_tokens"], sent["temperature"], sent["top_p"]) == (3, 0.1, 0.5)
    await answers.infer(CONTEXT, MODEL, QUESTION, msgspec.structs.replace(SPIN, top_k=5))
    assert core.seen.body.keys() - {"cache_salt"} == {"model", "messages", "top_k"}


async def test_what_cannot_be_asked_is_refused_with_a_reason(answers) -> None:
    assert (await refused(answers.infer(CONTEXT, MODEL, QUESTION, Options(repeat_last_n=8))))[0] is Code.INVALID
    assert (await refused(answers.infer(CONTEXT, MODEL, QUESTION, Options(temperature=9.0))))[0] is Code.INVALID
    assert (await refused(answers.infer(CONTEXT, "unknown", QUESTION, Options())))[0] is Code.NOT_FOUND
    assert (await refused(answers.infer(CONTEXT, "forbidden", QUESTION, Options())))[0] is Code.NOT_FOUND
    assert (await refused(answers.infer(CONTEXT, "", QUESTION, Options())))[0] is Code.INVALID


async def test_an_upstream_that_does_not_answer_is_told(pop: Pop, core, answers) -> None:
    core.configure(failure_injection_rate=1.0, failure_types=("rate_limit",))
    code, message = await refused(answers.infer(CONTEXT, MODEL, QUESTION, Options()))
    assert (code, "429" in message) == (Code.UNAVAILABLE, True)
    await core.stop()
    assert (await refused(answers.infer(CONTEXT, MODEL, "Another?", Options())))[0] is Code.UNAVAILABLE


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, (0, 0)),
        ({"prompt_tokens": None, "completion_tokens": 2}, (0, 2)),
        ({"prompt_tokens": 3}, (3, 0)),
        ({"prompt_tokens": "many"}, None),
        ({"prompt_tokens": -1}, None),
        ({"completion_tokens": 10**30}, None),
        ([], None),
    ],
)
async def test_tokens_are_what_the_upstream_says_and_nonsense_is_no_answer(start_pop, usage, expected) -> None:
    message = {"role": "assistant", "content": "A drink."}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": MODEL, "usage": usage}
    body["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(body)

    site = web.Application()
    site.router.add_post("/v1/chat/completions", answer)
    async with TestServer(site) as upstream:
        pop = await start_pop(str(upstream.make_url("")).rstrip("/"))
        made = LocalAnswers(pop.daemon.embedder, Rules(admit, 64, 2048), clock=SystemClock())
        made.attach(pop.daemon.pipeline)
        if expected is None:
            assert (await refused(made.infer(CONTEXT, MODEL, QUESTION, Options())))[0] is Code.UNAVAILABLE
        else:
            found = await made.infer(CONTEXT, MODEL, QUESTION, Options())
            assert (found.text, found.prompt_tokens, found.completion_tokens) == ("A drink.", *expected)


async def test_nobody_can_be_asked_before_the_pipeline_is_there(pop: Pop) -> None:
    made = LocalAnswers(pop.daemon.embedder, Rules(admit, 64, 2048), clock=SystemClock())
    assert (await refused(made.infer(CONTEXT, MODEL, QUESTION, Options())))[0] is Code.UNAVAILABLE


async def test_embeddings_come_from_the_local_embedder(answers) -> None:
    tokens, vectors = await answers.embed(CONTEXT, "Hashing", ["What is tea?", "tea"])
    assert tokens == 4
    found = [np.frombuffer(vector, "<f4") for vector in vectors]
    assert [vector.shape for vector in found] == [(384,), (384,)]
    assert np.linalg.norm(found[0]) == pytest.approx(1.0, abs=1e-5)


async def test_embeddings_that_cannot_be_had_are_refused(pop: Pop, answers) -> None:
    code, message = await refused(answers.embed(CONTEXT, "all-minilm-l6-v2", ["x"]))
    assert (code, "hashing" in message) == (Code.NOT_FOUND, True)
    assert (await refused(answers.embed(CONTEXT, "hashing", [])))[0] is Code.INVALID
    assert (await refused(answers.embed(CONTEXT, "hashing", ["x", ""])))[0] is Code.INVALID
    assert (await refused(answers.embed(CONTEXT, "hashing", ["word " * 2000])))[0] is Code.INVALID
    pop.daemon.embedder.close()
    assert (await refused(answers.embed(CONTEXT, "hashing", ["x"])))[0] is Code.UNAVAILABLE


async def test_the_cache_can_be_looked_up_by_meaning_and_never_goes_upstream(pop: Pop, core, answers) -> None:
    asked = core.seen.requests
    assert await answers.lookup(CONTEXT, MODEL, QUESTION) is None
    assert core.seen.requests == asked
    stored = await read(await pop.ask(QUESTION, tenant="acme"))
    await pop.settled()
    exact, near = await answers.lookup(CONTEXT, MODEL, QUESTION), await answers.lookup(CONTEXT, MODEL, "what is tea")
    assert exact is not None
    assert near is not None
    assert exact.answer == near.answer == stored
    assert (exact.similarity, exact.entry) == (1.0, near.entry)
    assert 0.9 < near.similarity <= 1.0


@pytest.mark.slow
async def test_no_function_runs_on_what_a_function_asks(pop: Pop, answers) -> None:
    await deploy(pop, Bind(Phase.HIT), tenant="acme", on_error="fail")
    await read(await pop.ask(QUESTION, tenant="acme"))
    await pop.settled()
    found = await answers.lookup(CONTEXT, MODEL, QUESTION)
    assert found is not None
    assert (await pop.ask(QUESTION, tenant="acme")).cache.status is CacheStatus.HIT
