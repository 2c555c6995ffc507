"""What functions may ask of this POP's answers: the port that the pipeline fills."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from edgecache.functions.context import Context


class Options(msgspec.Struct, frozen=True):
    """How to generate, in the words of Spin's `llm`; None leaves it to the model."""

    max_tokens: int | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None


class Inference(msgspec.Struct, frozen=True):
    """A generated text, and the tokens that it was metered as."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class Found(msgspec.Struct, frozen=True):
    """A stored answer (OpenAI JSON), how near its question is (cosine), and its number."""

    answer: bytes
    similarity: float
    entry: int


class Answers(Protocol):
    """This POP's answers, for the tenant of the context. All raise HostRefused, as for a model that is not served."""

    async def infer(self, context: Context, model: str, prompt: str, options: Options) -> Inference:
        """Answer `prompt`: from the cache, else from upstream."""
        ...

    async def embed(self, context: Context, model: str, texts: Sequence[str]) -> tuple[int, list[bytes]]:
        """The tokens of `texts`, and the vector of each (float32, little-endian)."""
        ...

    async def lookup(self, context: Context, model: str, question: str) -> Found | None:
        """The stored answer to `question` in the caller's scope, if one may be served."""
        ...
