"""A POP as a process before upstreams that nobody here wrote: several Dynamos with mockers, guidellm's mock server."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgecache.clock import SystemClock
from tests.conftest import MODEL
from tests.e2e.serving import QUICK, Answer, Served, serving

CHAT = "/v1/chat/completions"
CHEAP = "{ input = 0.1, output = 0.2, version = 'test' }"
DEAR = "{ input = 2.0, output = 6.0, version = 'test' }"
EXACT = {"EdgeCache-Mode": "exact"}
LATE = ("--speedup-ratio", "0.03", "--decode-speedup-ratio", "30")
"""A Dynamo with 0.6 s to the first token, far over the target of realtime, and 4 ms between tokens."""
PATIENCE = 60.0
"""s that a test waits for what must come."""


# ---------------------------------------------------------------------------------------------- what is shared
def upstream(
    name: str, server: SimpleNamespace, dialect: str, price: str, tier: str = "core", load: str = "none"
) -> str:
    return f"""
[[upstream]]
name = "{name}"
url = "{server.url}"
dialect = "{dialect}"
tier = "{tier}"
models = ["{MODEL}"]
load = "{load}"
price = {price}
"""


@asynccontextmanager
async def pop(folder: Path, *upstreams: str, router: str = "") -> AsyncIterator[Served]:
    """A POP with these upstreams, whose keys may have any class."""
    config = folder / "pop.toml"
    config.write_text(
        f'{QUICK}[router]\nservice_class = "realtime"\nprobe_interval = 0.5\n{router}{"".join(upstreams)}'
    )
    async with serving(config) as served:
        yield served


class Asker:
    """A client that never asks the same twice."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.asked = 0

    async def __call__(self, service: str = "standard", **fields: Any) -> Answer:
        self.asked += 1
        body = {"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": f"Number {self.asked}?"}]}
        return await self.served.get(
            CHAT, method="POST", json=body | fields, headers=EXACT | {"EdgeCache-Class": service}
        )


def by(answer: Answer) -> str:
    """Who gave a good answer; one that was a trial of the broker's says so."""
    status, headers, body = answer
    assert status == 200, (status, body)
    return "trial" if "why=trial" in headers["x-edgecache-route"] else headers["x-edgecache-upstream"]


def events(body: bytes) -> list[str]:
    return [line.removeprefix("data: ") for line in body.decode().split("\n\n") if line]


def said(body: bytes) -> str:
    """The text of a whole stream."""
    assert events(body)[-1] == "[DONE]", body[-300:]
    chunks = [json.loads(event) for event in events(body)[:-1]]
    assert not any("error" in chunk for chunk in chunks)
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def by_itself(answer: Answer) -> bool:
    """Whether an upstream was asked for this answer: it was neither stored nor another request's."""
    became = answer[1]["cache-status"]
    return "fwd=" in became and "collapsed" not in became


def counted(answers: list[Answer]) -> Counter[str]:
    """The tokens of answers by their own `usage`."""
    total: Counter[str] = Counter()
    for _, headers, body in answers:
        streamed = headers["content-type"].startswith("text/event-stream")
        usage = json.loads(events(body)[-2] if streamed else body)["usage"]
        total.update({name: usage[name] for name in ("prompt_tokens", "completion_tokens")})
    return total


async def metrics(url: str) -> list[Any]:
    """All samples of a server's `/metrics`."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(url + "/metrics")).text
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


async def summed(url: str, name: str, **labels: str) -> float:
    return sum(
        sample.value for sample in await metrics(url) if sample.name == name and labels.items() <= sample.labels.items()
    )


async def ledger(served: Served, requests: int) -> dict[str, Mapping[str, Any]]:
    """The usage report by upstream, once it knows of so many requests."""
    clock = SystemClock()
    deadline = clock.monotonic() + 10
    async with httpx.AsyncClient() as client:
        while True:
            answer = await client.get(served.pop.admin + "/admin/v1/usage", params={"by": "upstream"})
            assert answer.status_code == 200, answer.text
            rows = {row["upstream"]: row for row in answer.json()["rows"]}
            if sum(row["requests"] for row in rows.values()) >= requests:
                return rows
            assert clock.monotonic() < deadline, rows


# ---------------------------------------------------------------------------------------------- Dynamo
async def frontend_tokens(dynamo: SimpleNamespace) -> dict[str, float]:
    """What a Dynamo frontend has counted itself."""
    return {
        "prompt_tokens": await summed(dynamo.url, "dynamo_frontend_input_sequence_tokens_sum"),
        "completion_tokens": await summed(dynamo.url, "dynamo_frontend_output_sequence_tokens_sum"),
    }


@pytest.mark.dynamo
async def test_batch_goes_to_the_cheap_cluster_and_realtime_to_the_fast_one_once_it_is_known(
    start_dynamo, tmp_path
) -> None:
    fast, slow = start_dynamo("--speedup-ratio", "4"), start_dynamo(*LATE)
    async with pop(
        tmp_path,
        upstream("fast", fast, "dynamo", DEAR, "edge", "prometheus"),
        upstream("slow", slow, "dynamo", CHEAP, "core", "prometheus"),
        router="hedging = { ratio = 0.0 }\n",
    ) as served:
        ask = Asker(served)
        async with asyncio.timeout(PATIENCE):
            learned = [by(await ask("realtime")) for _ in range(4)]
            while learned[-3:] != ["fast"] * 3:
                learned.append(by(await ask("realtime")))
        assert learned[0] == "slow"  # nothing was known, and it is cheaper
        realtime = [by(await ask("realtime", stream=index % 2 == 0)) for index in range(8)]
        assert set(realtime) - {"trial"} == {"fast"}
        assert [by(await ask("batch")) for _ in range(4)] == ["slow"] * 4
        assert await summed(served.pop.admin, "edgecache_residency_violations_total") == 0
        for cluster in ("fast", "slow"):
            read = await summed(
                served.pop.admin, "edgecache_upstream_probes_total", cluster=cluster, kind="load", result="ok"
            )
            assert read > 0


@pytest.mark.dynamo
async def test_the_usage_report_equals_what_the_frontends_have_counted(start_dynamo, tmp_path) -> None:
    servers = {"fast": start_dynamo("--speedup-ratio", "4"), "slow": start_dynamo(*LATE)}
    async with pop(
        tmp_path,
        upstream("fast", servers["fast"], "dynamo", DEAR, "edge"),
        upstream("slow", servers["slow"], "dynamo", CHEAP),
        router="hedging = { ratio = 0.0 }\n",
    ) as served:
        ask = Asker(served)
        sent = [("realtime", False), ("batch", True), ("realtime", True), ("batch", False)] * 5
        answers = [await ask(service, stream=stream, max_tokens=40) for service, stream in sent]
        assert {by(answer) for answer in answers} - {"trial"} == {"fast", "slow"}
        booked = await ledger(served, len(sent))
        for name, server in servers.items():
            row = booked[name]
            assert {key: row[key] for key in ("prompt_tokens", "completion_tokens")} == await frontend_tokens(server)
            assert row["estimated_tokens"] == 0
        prices = {"fast": (2.0, 6.0), "slow": (0.1, 0.2)}
        for name, (prompt, completion) in prices.items():
            cost = (booked[name]["prompt_tokens"] * prompt + booked[name]["completion_tokens"] * completion) / 1e6
            assert booked[name]["cost_usd"] == pytest.approx(cost, abs=1e-9)


@pytest.mark.dynamo
async def test_a_frontend_killed_with_requests_in_it_is_an_error_that_no_client_sees(start_dynamo, tmp_path) -> None:
    dying, other = start_dynamo("--speedup-ratio", "0.2"), start_dynamo("--speedup-ratio", "4")
    async with pop(
        tmp_path, upstream("dying", dying, "dynamo", CHEAP), upstream("other", other, "dynamo", DEAR)
    ) as served:
        ask = Asker(served)
        assert by(await ask()) == "dying"
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            long = [group.create_task(ask(max_tokens=300, ignore_eos=True)) for _ in range(4)]
            while await summed(dying.url, "dynamo_frontend_inflight_requests") < len(long):
                pass
            os.kill(dying.frontend_pid, signal.SIGKILL)
        answers = [each.result() for each in long]
        answers += [await ask(stream=index % 2 == 0) for index in range(6)]
        assert [by(answer) for answer in answers] == ["other"] * 10
        assert [json.loads(body)["usage"]["completion_tokens"] for *_, body in answers[:4]] == [300] * 4
        assert await summed(served.pop.admin, "edgecache_upstream_requests_total", cluster="dying") >= 5


@pytest.mark.dynamo
async def test_a_frontend_without_its_worker_answers_503_then_404_and_both_lead_to_the_other(
    start_dynamo, tmp_path
) -> None:
    headless, other = start_dynamo("--speedup-ratio", "4"), start_dynamo("--speedup-ratio", "4")
    async with pop(
        tmp_path,
        upstream("headless", headless, "dynamo", CHEAP),
        upstream("other", other, "dynamo", DEAR),
        router="ejection = { most = 0.0 }\nhedging = { retries = 1.0 }\n",  # it is tried again and again
    ) as served:
        ask = Asker(served)
        assert by(await ask()) == "headless"
        os.kill(headless.mocker_pid, signal.SIGKILL)
        met: set[str] = set()
        async with asyncio.timeout(PATIENCE):
            while not {"503", "404"} <= met:
                assert by(await ask(stream=ask.asked % 2 == 0)) == "other"
                met = {
                    sample.labels["code"]
                    for sample in await metrics(served.pop.admin)
                    if sample.name == "edgecache_upstream_requests_total" and sample.labels["cluster"] == "headless"
                }


# ---------------------------------------------------------------------------------------------- guidellm
@pytest.mark.guidellm
async def test_answers_of_a_stranger_are_kept_and_booked_as_it_counts_them(start_guidellm, tmp_path) -> None:
    server = start_guidellm("--request-latency", "0", "--ttft-ms", "20", "--itl-ms", "2")
    async with pop(tmp_path, upstream("stranger", server, "vllm", CHEAP)) as served:
        asked = {
            "model": MODEL,
            "max_tokens": 12,
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": "What do you say in a stream?"}],
        }

        async def ask() -> Answer:
            return await served.get(CHAT, method="POST", json=asked, headers=EXACT)

        answers = [await Asker(served)(), await ask()]
        assert [by(answer) for answer in answers] == ["stranger"] * 2
        async with asyncio.timeout(PATIENCE):
            while answers[-1][1]["x-edgecache-status"] != "HIT":
                answers.append(await ask())
        assert said(answers[-1][2]) == said(answers[1][2]) != ""
        row = (await ledger(served, len(answers)))["stranger"]
        generated = [answer for answer in answers if by_itself(answer)]
        assert {key: row[key] for key in ("prompt_tokens", "completion_tokens")} == counted(generated)
        assert row["estimated_tokens"] == 0


@pytest.mark.guidellm
async def test_a_stranger_killed_in_a_stream_leaves_an_aborted_one_that_is_not_kept(start_guidellm, tmp_path) -> None:
    server = start_guidellm("--ttft-ms", "20", "--itl-ms", "50")
    other = start_guidellm("--ttft-ms", "20", "--itl-ms", "1")
    async with pop(
        tmp_path, upstream("dying", server, "vllm", CHEAP), upstream("other", other, "vllm", DEAR)
    ) as served:
        asked = {
            "model": MODEL,
            "max_tokens": 400,
            "stream": True,
            "messages": [{"role": "user", "content": "What do you say at length?"}],
        }
        async with httpx.AsyncClient(base_url=served.pop.url, timeout=PATIENCE) as client:
            got = b""
            with pytest.raises(httpx.RemoteProtocolError):
                async with client.stream("POST", CHAT, json=asked, headers=EXACT) as response:
                    assert response.headers["x-edgecache-upstream"] == "dying"
                    async for part in response.aiter_raw():
                        if not got:
                            os.kill(server.pid, signal.SIGKILL)
                        got += part
        assert b"[DONE]" not in got
        assert "error" in json.loads(events(got)[-1])
        status, headers, body = await served.get(CHAT, method="POST", json=asked, headers=EXACT)
        assert (status, headers["x-edgecache-status"], headers["x-edgecache-upstream"]) == (200, "MISS", "other")
        assert said(body)
        row = (await ledger(served, 2))["dying"]
        assert row["errors"] == 1
        assert row["estimated_tokens"] == row["prompt_tokens"] + row["completion_tokens"]  # it could not say any more
        assert row["completion_tokens"] >= 1


@pytest.mark.guidellm
async def test_a_stranger_that_begins_to_fail_is_left_out_and_no_client_notices(start_guidellm, tmp_path) -> None:
    failing = start_guidellm("--request-latency", "0", "--fail-after-requests", "3")
    other = start_guidellm("--request-latency", "0")
    async with pop(
        tmp_path, upstream("failing", failing, "vllm", CHEAP), upstream("other", other, "vllm", DEAR)
    ) as served:
        ask = Asker(served)
        answers = [await ask(max_tokens=4) for _ in range(12)]
        assert [by(answer) for answer in answers] == ["failing"] * 3 + ["other"] * 9
        row = (await ledger(served, len(answers)))["failing"]
        assert {key: row[key] for key in ("prompt_tokens", "completion_tokens")} == counted(answers[:3])
        assert await summed(served.pop.admin, "edgecache_upstream_ejections_total", cluster="failing") >= 1


@pytest.mark.guidellm
async def test_a_stranger_whose_first_token_is_late_gets_no_realtime_requests(start_guidellm, tmp_path) -> None:
    late, prompt = (
        start_guidellm("--ttft-ms", "900", "--itl-ms", "1"),
        start_guidellm("--ttft-ms", "20", "--itl-ms", "1"),
    )
    async with pop(
        tmp_path,
        upstream("late", late, "vllm", CHEAP),
        upstream("prompt", prompt, "vllm", DEAR),
        router="hedging = { ratio = 0.0 }\n",
    ) as served:
        ask = Asker(served)
        async with asyncio.timeout(PATIENCE):
            learned = [by(await ask("realtime", stream=True)) for _ in range(4)]
            while learned[-3:] != ["prompt"] * 3:
                learned.append(by(await ask("realtime", stream=True)))
        assert learned[0] == "late"
        assert {by(await ask("realtime", stream=True)) for _ in range(6)} - {"trial"} == {"prompt"}
        assert by(await ask("batch", stream=True)) == "late"
