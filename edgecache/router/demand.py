"""What one request needs of an upstream, in numbers. Made by `router.reader`, read by `router.policy`. Pure."""

from enum import IntFlag
from math import inf

import msgspec

from edgecache.types import ServiceClass


class Feature(IntFlag):
    """What a model can do beyond text; names as in `upstream.features`."""

    NONE = 0
    TOOLS = 1
    JSON_OBJECT = 2
    JSON_SCHEMA = 4
    VISION = 8
    AUDIO = 16
    LOGPROBS = 32
    ANY = 63


class Prefix(msgspec.Struct, frozen=True):
    """A beginning of the prompt that an upstream may have in its KV cache: its digest, and its tokens (estimated)."""

    digest: bytes
    tokens: int


class Demand(msgspec.Struct, frozen=True):
    """One request, as the choice of an upstream sees it.

    `prompt_tokens` and `output_tokens` are estimates (`counted` = by the model's own tokenizer); of the prompt, `size`
    bytes are text and `fixed` tokens are not. `limit` is the most tokens that it may generate. `features` are those of
    `Feature` as plain bits: arithmetic of flags takes ten times as long. `gpu` and `gpu_memory` (GB) are what the
    model's route asks of its upstreams, empty and 0 = nothing. `residency` empty = anywhere. `due` is the
    monotonic time by which the answer must have ended. `budget` is what is left of the key's, in USD. `prefixes` are
    shortest first. `session` is empty where the client names none; `sticky` is the same for the same question, and
    empty where the model has no targets. `easy` is the probability that a small model's answer is good enough, None
    where nobody asked. `function` is the upstream that a function has chosen.
    """

    model: str
    tenant: str = "default"
    service: ServiceClass = ServiceClass.STANDARD
    stream: bool = False
    prompt_tokens: int = 0
    counted: bool = False
    output_tokens: float = 0.0
    limit: int = 0
    size: int = 0
    fixed: int = 0
    features: int = 0
    lora: str = ""
    gpu: str = ""
    gpu_memory: int = 0
    residency: frozenset[str] = frozenset()
    due: float = inf
    hops: int = 0
    budget: float = inf
    prefixes: tuple[Prefix, ...] = ()
    session: bytes = b""
    sticky: bytes = b""
    easy: float | None = None
    weight: float = 1.0
    function: str = ""
