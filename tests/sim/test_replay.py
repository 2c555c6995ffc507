"""Against a scripted POP whose mistakes are known: what the report says must be exactly what it did."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from edgecache.errors import ConfigError
from edgecache.sim.replay import ReplayOptions, run

PLAIN = {"prompt": "How high is the tower?", "set": "tower"}
AGAIN = {"prompt": "How high is the tower?", "set": "tower"}
OTHER_WORDS = {"prompt": "What is the height of the tower?", "set": "tower"}
LOOKALIKE = {"prompt": "How high is the hill?", "set": "hill"}


class ScriptedPop:
    """Answers each prompt as told: (status header, completion id, text) or a raw response."""

    def __init__(self) -> None:
        self.script: dict[tuple[str, int], tuple[str, str, str]] = {}
        self.raw: bytes | None = None
        self.requests: list[dict[str, object]] = []
        self.named: list[str | None] = []
        self.cut = False
        self.abort = False

    async def models(self, _request: web.Request) -> web.Response:
        local = {"id": "mini", "object": "model", "created": 0, "owned_by": "edgecache"}
        served = {"id": "m1", "object": "model", "created": 0, "owned_by": "nvidia"}
        return web.json_response({"object": "list", "data": [local, served]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.named.append(request.headers.get("tracestate"))
        prompt = body["messages"][-1]["content"]
        seen = sum(1 for each in self.requests if each["messages"][-1]["content"] == prompt)
        if self.raw is not None:
            return web.Response(body=self.raw, content_type="application/json")
        if (prompt, seen) not in self.script:
            return web.json_response({"error": {"message": "no", "type": "server_error"}}, status=502)
        status, name, text = self.script[prompt, seen]
        head = {"x-edgecache-status": status, "x-edgecache-entry": "1"}
        usage = {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}
        base = {"id": name, "created": 1, "model": "m1"}
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            whole = base | {"object": "chat.completion", "choices": [choice], "usage": usage}
            return web.json_response(whole, headers=head)
        response = web.StreamResponse(headers=head | {"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chunk = base | {"object": "chat.completion.chunk"}
        for delta in ({"role": "assistant"}, {"content": text[:2]}, {"content": text[2:]}):
            event = chunk | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        if self.abort and request.transport is not None:
            request.transport.abort()
        elif not self.cut:
            event = chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            await response.write(b"data: " + json.dumps(chunk | {"choices": [], "usage": usage}).encode() + b"\n\n")
            await response.write(b"data: [DONE]\n\n")
        return response


Scripted = tuple[ScriptedPop, str]


@pytest.fixture
async def pop() -> AsyncIterator[tuple[ScriptedPop, str]]:
    scripted = ScriptedPop()
    app = web.Application()
    app.router.add_get("/v1/models", scripted.models)
    app.router.add_post("/v1/chat/completions", scripted.chat)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    yield scripted, f"http://127.0.0.1:{port}"
    await runner.cleanup()


def options(folder: Path, url: str, *rows: dict[str, str], **more: object) -> ReplayOptions:
    data = folder / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    return replace(ReplayOptions(data=data, url=url, concurrency=1), **more)


@pytest.mark.parametrize("share", [0.0, 1.0])
async def test_hits_are_judged_by_the_question_whose_answer_they_repeat(
    tmp_path: Path, pop: Scripted, share: float
) -> None:
    scripted, url = pop
    scripted.script = {
        (PLAIN["prompt"], 1): ("MISS", "chatcmpl-1", "330 m"),
        (AGAIN["prompt"], 2): ("HIT", "chatcmpl-1", "330 m"),
        (OTHER_WORDS["prompt"], 1): ("SEMANTIC_HIT", "chatcmpl-1", "330 m"),
        (LOOKALIKE["prompt"], 1): ("SEMANTIC_HIT", "chatcmpl-1", "330 m"),
    }
    rows = (PLAIN, AGAIN, OTHER_WORDS, LOOKALIKE)
    found = (await run(options(tmp_path, url, *rows, stream_share=share))).to_dict()
    assert found["hits"] == {"exact": 1, "semantic": 2, "total": 3}
    assert found["wrong_hits"]["semantic"] == found["wrong_hits"]["total"] == 1
    assert found["wrong_hits"]["unjudged"] == 0
    assert (found["misses"], found["oracle_hits"]) == (1, 2)
    assert found["tokens_avoided"] == {"prompt": 12, "completion": 9}
    assert found["errors"] == {}
    key = "hit_stream_first_content" if share else "hit_json_total"
    assert {name: each["count"] for name, each in found["latency_ms"].items() if each["count"]} == {
        key: 3,
        key.replace("hit", "miss"): 1,
    }


async def test_a_completion_id_that_two_workers_share_does_not_make_a_hit_look_right(
    tmp_path: Path, pop: Scripted
) -> None:
    scripted, url = pop
    scripted.script = {
        (PLAIN["prompt"], 1): ("MISS", "chatcmpl-1", "330 m"),
        (LOOKALIKE["prompt"], 1): ("MISS", "chatcmpl-1", "12 m"),
        (OTHER_WORDS["prompt"], 1): ("SEMANTIC_HIT", "chatcmpl-1", "12 m"),
    }
    found = await run(options(tmp_path, url, PLAIN, LOOKALIKE, OTHER_WORDS))
    assert (found.wrong, found.unjudged) == (1, 0)


async def test_a_hit_on_an_answer_from_before_the_replay_is_not_judged(tmp_path: Path, pop: Scripted) -> None:
    scripted, url = pop
    scripted.script = {(PLAIN["prompt"], 1): ("HIT", "chatcmpl-9", "330 m")}
    found = await run(options(tmp_path, url, PLAIN))
    assert (found.wrong, found.unjudged, len(found.hits)) == (0, 1, 1)


async def test_about_half_of_the_requests_stream_the_same_ones_each_time_and_usage_is_asked_for(
    tmp_path: Path, pop: Scripted
) -> None:
    scripted, url = pop
    rows = [{"prompt": f"question {n}", "set": f"{n}"} for n in range(100)]
    scripted.script = {(row["prompt"], 1): ("MISS", f"c-{row['set']}", "text") for row in rows}
    found = await run(options(tmp_path, url, *rows))
    assert 35 <= sum(each.stream for each in found.outcomes) <= 65
    for request in scripted.requests:
        assert request["max_tokens"] == 256
        assert request.get("stream_options") == ({"include_usage": True} if request.get("stream") else None)
    scripted.requests.clear()
    again = await run(options(tmp_path, url + "/v1/", *rows))
    assert [each.stream for each in again.outcomes] == [each.stream for each in found.outcomes]
    assert [each["messages"][0]["content"] for each in scripted.requests] == [row["prompt"] for row in rows]


async def test_failures_are_counted_and_the_replay_goes_on(tmp_path: Path, pop: Scripted) -> None:
    scripted, url = pop
    scripted.script = {(AGAIN["prompt"], 2): ("MISS", "c", "330 m")}
    seen: list[tuple[int, int]] = []
    found = await run(options(tmp_path, url, PLAIN, AGAIN), lambda done, total: seen.append((done, total)))
    assert found.errors == {"InternalServerError 502": 1}
    assert found.to_dict()["misses"] == 1
    assert seen == [(1, 2), (2, 2)]


async def test_a_stream_that_just_ends_is_an_error_though_the_sdk_takes_it_for_success(
    tmp_path: Path, pop: Scripted
) -> None:
    scripted, url = pop
    scripted.script = {(PLAIN["prompt"], 1): ("MISS", "c", "330 m")}
    scripted.cut = True
    found = await run(options(tmp_path, url, PLAIN, stream_share=1.0))
    assert found.errors == {"unfinished": 1}


async def test_a_stream_that_is_aborted_is_an_error(tmp_path: Path, pop: Scripted) -> None:
    scripted, url = pop
    scripted.script = {(PLAIN["prompt"], 1): ("MISS", "c", "330 m")}
    scripted.abort = True
    found = await run(options(tmp_path, url, PLAIN, stream_share=1.0))
    assert sum(found.errors.values()) == 1
    assert "unfinished" not in found.errors


@pytest.mark.parametrize("raw", [b"null", b'{"error": "x"}', b"{"])
async def test_a_200_without_an_answer_is_an_error(tmp_path: Path, pop: Scripted, raw: bytes) -> None:
    scripted, url = pop
    scripted.raw = raw
    found = await run(options(tmp_path, url, PLAIN, stream_share=0.0))
    assert sum(found.errors.values()) == 1


async def test_the_first_model_that_is_not_the_local_embedder_is_asked_unless_one_is_named(
    tmp_path: Path, pop: Scripted
) -> None:
    scripted, url = pop
    await run(options(tmp_path, url, PLAIN))
    await run(options(tmp_path, url, PLAIN, model="named"))
    assert [each["model"] for each in scripted.requests] == ["m1", "named"]


async def test_a_url_that_does_not_answer_is_a_configuration_error(tmp_path: Path, unused_tcp_port: int) -> None:
    with pytest.raises(ConfigError, match="OpenAI-compatible"):
        await run(options(tmp_path, f"http://127.0.0.1:{unused_tcp_port}", PLAIN))


async def test_questions_of_one_set_name_the_same_answer(tmp_path: Path, pop: Scripted) -> None:
    scripted, url = pop
    await run(options(tmp_path, url, PLAIN, OTHER_WORDS, LOOKALIKE))
    tower, also_tower, hill = scripted.named
    assert tower == also_tower
    assert tower != hill
