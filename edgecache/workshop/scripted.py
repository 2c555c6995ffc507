"""What a case says that lies outside the machine: the network, and this POP's models and cache. Nothing is asked.

They stand where `upstream.outbound` and the pipeline stand in a POP; what may be asked at all is still decided by the
grants, as there.
"""

import struct
from collections.abc import Sequence

from edgecache.errors import EdgeCacheError, UpstreamUnreachable
from edgecache.functions.answers import Found, Inference, Options
from edgecache.functions.context import Context
from edgecache.upstream.outbound import Fetch, Fetched, Outbound
from edgecache.upstream.target import Target, TargetRefused, parse
from edgecache.wasm.hostcalls import Code, HostRefused
from edgecache.workshop.cases import Case, Known


class ScriptedNetwork(Outbound):
    """Answers requests from a case's `fetch`, each answer once."""

    def __init__(self, case: Case) -> None:
        self._left = [(each.method, _target(each.url), each) for each in case.fetch]

    async def fetch(
        self,
        request: Fetch,
        *,
        owner: str,  # noqa: ARG002 - as there
        most: int,  # noqa: ARG002
        timeout: float,  # noqa: ARG002, ASYNC109
    ) -> Fetched:
        """The next answer to this method and URL; raises UpstreamUnreachable where the case has none."""
        for number, (method, target, said) in enumerate(self._left):
            if (method, target) == (request.method, request.target):
                del self._left[number]
                headers = tuple((name.lower().encode(), value.encode()) for name, value in said.headers.items())
                return Fetched(said.status, headers, said.raw())
        url = request.target.origin + request.target.path
        raise UpstreamUnreachable(f"the case has no (further) answer to {request.method} {url}: write it under `fetch`")


def _target(url: str) -> Target:
    try:
        return parse(url)
    except TargetRefused as error:
        raise EdgeCacheError(f"`fetch` of the case: {url[:200]!r}: {error}") from error


class ScriptedAnswers:
    """Answers `llm.*` and `cache.lookup` from a case's `llm` and `cache`."""

    def __init__(self, case: Case) -> None:
        self._infer, self._embed = list(case.llm.infer), list(case.llm.embed)
        self._cache = case.cache
        self._repeats = not case.llm.infer

    async def infer(self, context: Context, model: str, prompt: str, options: Options) -> Inference:  # noqa: ARG002
        """The next text; the prompt itself in a case without any."""
        if not self._infer and not self._repeats:
            raise HostRefused(Code.UNAVAILABLE, "the case has no further text: write it under `llm.infer`")
        text = prompt if self._repeats else self._infer.pop(0)
        return Inference(text, len(prompt.split()), len(text.split()))

    async def embed(self, context: Context, model: str, texts: Sequence[str]) -> tuple[int, list[bytes]]:  # noqa: ARG002
        """The next vector for each text."""
        if len(texts) > len(self._embed):
            raise HostRefused(Code.UNAVAILABLE, "the case has too few vectors: write one a text under `llm.embed`")
        vectors = [self._embed.pop(0) for _ in texts]
        return sum(len(text.split()) for text in texts), [struct.pack(f"<{len(each)}f", *each) for each in vectors]

    async def lookup(self, context: Context, model: str, question: str) -> Found | None:  # noqa: ARG002
        """What the case says is stored for `question`."""
        known: Known | None = self._cache.get(question)
        return None if known is None else Found(known.raw(), known.similarity, 1)
