"""A request as the scripted core reads it: what the server it plays would refuse, and what it takes note of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from edgecache.config import tree as config
from edgecache.sim import habits, words
from edgecache.types import Endpoint


class Refused(Exception):
    """The request gets an error answer. With an empty `message` its body is empty too."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that passed the server's checks.

    `model` is the served one, or the LoRA adapter. `answer` is the name of its answer, empty if it has none
    (`words.name_of`). `priority` is the engine's own, whichever way the dialect counts; None = not given. `salt` keeps
    prefixes of different tenants apart.
    """

    endpoint: Endpoint
    body: dict[str, Any]
    model: str
    stream: bool
    include_usage: bool
    prompt_tokens: int
    answer: str = ""
    priority: float | None = None
    salt: str = ""


def read(endpoint: Endpoint, raw: bytes, settings: config.Core, *, answer: str = "") -> Ask:
    """The request in `raw`. Raises `Refused` as the server would answer."""
    body = _body(raw)
    dialect = settings.dialect
    known = habits.KNOWN.get((dialect, endpoint))
    if known is not None and (unknown := sorted(body.keys() - known)):
        raise Refused(400, f"Unsupported parameter(s): {', '.join(unknown)}", "bad_body")
    streaming = body.get("stream") is True
    options = body.get("stream_options")
    if options is not None and not streaming:
        raise Refused(400, "stream_options can only be set if stream is true", "bad_body")
    prompt_tokens = words.count(body)
    if prompt_tokens > settings.max_model_len:
        raise Refused(400, f"the prompt is longer than {settings.max_model_len} tokens", "context_length")
    if body.get("continue_final_message") is True and body.get("add_generation_prompt") is not False:
        raise Refused(400, "continue_final_message and add_generation_prompt exclude each other", "bad_body")
    default = dialect == "trtllm" and options is not None  # `stream_options: {}` means usage there
    usage = options.get("include_usage", default) if isinstance(options, dict) else False
    salt = body.get("cache_salt")
    return Ask(
        endpoint=endpoint,
        body=body,
        model=_model(body, settings),
        stream=streaming,
        include_usage=bool(usage),
        prompt_tokens=prompt_tokens,
        answer=answer,
        priority=_priority(dialect, body),
        salt=salt if isinstance(salt, str) else "",
    )


def _body(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"the body is not JSON: {error}", "bad_body") from error
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise Refused(400, "the body needs a model", "bad_body")
    return body


def _model(body: Mapping[str, Any], settings: config.Core) -> str:
    """The model that answers. trtllm-serve serves its one model to any name; adapters are in `lora_request` there."""
    asked = str(body["model"])
    if settings.dialect != "trtllm":
        if asked not in settings.models and asked not in settings.loras:
            raise Refused(404, f"The model `{asked}` does not exist", "model_not_found")
        return asked
    adapter = body.get("lora_request")
    if adapter is not None:
        name = adapter.get("lora_name") if isinstance(adapter, dict) else None
        if name not in settings.loras:
            raise Refused(400, f"The LoRA adapter `{name}` is not loaded")
        return str(name)
    return asked if asked in settings.models else settings.models[0]


def _priority(dialect: str, body: Mapping[str, Any]) -> float | None:
    """`priority`: 0 to 1 for trtllm-serve, a whole number for vLLM, inside `nvext.agent_hints` for Dynamo."""
    value = body.get("priority")
    if dialect == "dynamo":
        hints = nvext.get("agent_hints") if isinstance(nvext := body.get("nvext"), dict) else None
        value = hints.get("priority") if isinstance(hints, dict) else None
    if value is None:
        return None
    fits = isinstance(value, int | float) if dialect == "trtllm" else isinstance(value, int)
    if not fits or isinstance(value, bool) or (dialect == "trtllm" and not 0 <= value <= 1):
        raise Refused(400, f"priority cannot be {value!r}", "bad_body")
    return float(value)
