"""Real questions driven through the openai SDK against any OpenAI-compatible URL, and each hit judged right or wrong.

A hit is judged by where its answer came from. A cache that replays a stored answer replays its completion id and text,
so the driver remembers for which question it first saw each (id, text): the hit is right if that question has the same
`set` as the one asked. The text is part of it because TensorRT-LLM's ids are counters that collide across workers.

Each request names its set in `tracestate`, which the scripted core answers by: questions of one set then get one
answer, as they would from a model, and what a POP learns by comparing answers is true. To others it means nothing.
"""

import asyncio
import hashlib
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import openai
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from edgecache.clock import Clock, SystemClock
from edgecache.errors import ConfigError
from edgecache.sim import words, workload
from edgecache.sim.pop import own_pop
from edgecache.sim.report import Outcome, ReplayReport
from edgecache.sim.workload import Question
from edgecache.tasks import Tasks

Progress = Callable[[int, int], None]
"""Called with requests done and requests in all, after each request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """What to ask whom. Without `url` a POP of its own is started and stopped; without `model` the first one listed.

    `limit` None asks everything in `data`. `stream_share` of the requests, chosen by `seed`, are streams. `max_tokens`
    is sent because some servers refuse requests without it. `timeout` is in seconds.
    """

    data: Path
    limit: int | None = None
    url: str | None = None
    model: str | None = None
    concurrency: int = 8
    stream_share: float = 0.5
    seed: int = 0
    max_tokens: int = 256
    api_key: str = "none"
    timeout: float = 120.0


async def run(options: ReplayOptions, progress: Progress | None = None, *, clock: Clock | None = None) -> ReplayReport:
    """Ask all questions in order, `concurrency` at a time. A request that fails is counted, not raised.

    Raises ConfigError when the data cannot be read, the URL does not answer or the model is not known.
    """
    clock = clock or SystemClock()
    questions = workload.load(options.data, options.limit)
    async with _target(options) as url, _client(options, url) as client:
        model = options.model or await _first_model(client, url)
        driver = _Driver(client, options, model, clock)
        begun = clock.monotonic()
        outcomes = await driver.drive(questions, progress)
        duration = clock.monotonic() - begun
    return ReplayReport(url, model, tuple(outcomes), workload.oracle_hits(questions), duration)


@asynccontextmanager
async def _target(options: ReplayOptions) -> AsyncIterator[str]:
    if options.url is not None:
        yield options.url.rstrip("/").removesuffix("/v1")
        return
    async with own_pop() as pop:
        yield pop.url


def _client(options: ReplayOptions, url: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=url + "/v1", api_key=options.api_key, max_retries=0, timeout=options.timeout)


async def _first_model(client: AsyncOpenAI, url: str) -> str:
    try:
        models = [each async for each in client.models.list()]
    except openai.OpenAIError as error:
        raise ConfigError(f"{url}/v1/models does not answer ({error}): is this an OpenAI-compatible URL?") from error
    chat = [each.id for each in models if each.owned_by != "edgecache"]  # that one is the local embedder
    if not chat:
        raise ConfigError(f"{url}/v1/models lists no model: name one with --model")
    return chat[0]


class _Driver:
    """Asks the questions and judges the answers of one replay."""

    def __init__(self, client: AsyncOpenAI, options: ReplayOptions, model: str, clock: Clock) -> None:
        self._client = client
        self._options = options
        self._model = model
        self._clock = clock
        self._origins: defaultdict[bytes, set[str]] = defaultdict(set)

    async def drive(self, questions: list[Question], progress: Progress | None) -> list[Outcome]:
        """One outcome a question, in the order of the questions.

        Hits are judged at the end: a hit may be read before the last bytes of the answer that it repeats.
        """
        choose = random.Random(self._options.seed)  # noqa: S311 - which requests stream, not a secret
        work = iter([(n, each, choose.random() < self._options.stream_share) for n, each in enumerate(questions)])
        outcomes: dict[int, tuple[Outcome, bytes]] = {}
        tasks = Tasks()
        try:
            lanes = [
                tasks.spawn(self._lane(work, outcomes, len(questions), progress), name=f"replay-{lane}")
                for lane in range(self._options.concurrency)
            ]
            await asyncio.gather(*lanes)
        finally:
            await tasks.close()
        return [self._judged(*outcomes[number], question) for number, question in enumerate(questions)]

    async def _lane(
        self,
        work: Iterator[tuple[int, Question, bool]],
        outcomes: dict[int, tuple[Outcome, bytes]],
        total: int,
        progress: Progress | None,
    ) -> None:
        for number, question, stream in work:
            outcomes[number] = await self._ask(question, stream=stream)
            if progress is not None:
                progress(len(outcomes), total)

    async def _ask(self, question: Question, *, stream: bool) -> tuple[Outcome, bytes]:
        begun = self._clock.monotonic()
        try:
            answer = await (self._streamed(question, begun) if stream else self._whole(question))
        except (openai.OpenAIError, httpx2.HTTPError, ValueError) as error:  # the last two: broken streams, bad JSON
            return Outcome("", stream, self._clock.monotonic() - begun, error=_kind(error)), b""
        outcome = Outcome(
            answer.status,
            stream,
            self._clock.monotonic() - begun,
            answer.first,
            answer.prompt_tokens,
            answer.completion_tokens,
            error="" if answer.finished else "unfinished",  # the SDK takes a stream that just ends for success
        )
        if not outcome.error and not outcome.hit:
            self._origins[answer.origin].add(question.set)
        return outcome, answer.origin

    def _judged(self, outcome: Outcome, origin: bytes, question: Question) -> Outcome:
        known = self._origins.get(origin)
        return replace(outcome, right=question.set in known) if outcome.hit and known is not None else outcome

    def _request(self, question: Question) -> dict[str, Any]:
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": question.prompt}],
            "max_tokens": self._options.max_tokens,
            "extra_headers": {"tracestate": words.naming(question.set)},
        }

    async def _whole(self, question: Question) -> "_Answer":
        raw = await self._client.chat.completions.with_raw_response.create(**self._request(question))
        answer, completion = _Answer(raw.headers.get("x-edgecache-status") or "NONE"), raw.parse()
        if not isinstance(completion, ChatCompletion):  # the SDK hands on whatever a 200 carries, `null` too
            return answer
        answer.id = completion.id
        for choice in completion.choices or ():
            answer.text += choice.message.content or ""
            answer.finished |= choice.finish_reason is not None
        answer.count(completion.usage)
        return answer

    async def _streamed(self, question: Question, begun: float) -> "_Answer":
        raw = await self._client.chat.completions.with_raw_response.create(
            **self._request(question), stream=True, stream_options={"include_usage": True}
        )
        answer = _Answer(raw.headers.get("x-edgecache-status") or "NONE")
        async with raw.parse() as chunks:
            async for chunk in chunks:
                answer.id = answer.id or chunk.id
                for choice in chunk.choices or ():
                    if choice.delta.content and answer.first is None:
                        answer.first = self._clock.monotonic() - begun
                    answer.text += choice.delta.content or ""
                    answer.finished |= choice.finish_reason is not None
                answer.count(chunk.usage)
        return answer


class _Answer:
    """One answer as it arrives."""

    def __init__(self, status: str) -> None:
        self.status = status
        self.id = ""
        self.text = ""
        self.first: float | None = None
        self.finished = False
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def count(self, usage: Any) -> None:
        if usage is not None:
            self.prompt_tokens, self.completion_tokens = usage.prompt_tokens, usage.completion_tokens

    @property
    def origin(self) -> bytes:
        """What identifies a stored answer wherever it is replayed."""
        return hashlib.sha256(f"{self.id}\n{self.text}".encode()).digest()


def _kind(error: Exception) -> str:
    status = getattr(error, "status_code", None)
    return type(error).__name__ if status is None else f"{type(error).__name__} {status}"
