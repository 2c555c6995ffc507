"""The wire habits of each kind of server: ids, chunks, errors, refused fields. Pure; timing is `sim.upstream`'s part.

Sources: reference measurements of Dynamo 1.6.1, TensorRT-LLM `serve/openai_protocol.py` and
`serve/postprocess_handlers.py`, vLLM's OpenAI server.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from edgecache.sim.words import Generated
from edgecache.types import Endpoint
from edgecache.wire.sse import DONE

_SAMPLING = (
    "model stream stream_options n seed stop temperature top_p frequency_penalty presence_penalty logit_bias user "
    "max_tokens best_of echo logprobs"
)
_CHAT = (
    "messages max_completion_tokens top_logprobs tools tool_choice parallel_tool_calls response_format reasoning_effort"
)
_TRTLLM = (
    "top_k min_p top_p_min repetition_penalty length_penalty early_stopping stop_token_ids ignore_eos min_tokens "
    "truncate_prompt_tokens prompt_ignore_length thinking_token_budget lora_request add_special_tokens use_beam_search "
    "include_stop_str_in_output skip_special_tokens spaces_between_special_tokens response_format "
    "disaggregated_params conversation_params priority"
)
_TRTLLM_CHAT = (
    "add_generation_prompt documents chat_template chat_template_kwargs media_io_kwargs mm_processor_kwargs cache_salt "
    "agent_hierarchy thinking"
)
_DYNAMO = (
    "nvext cache_salt stop_token_ids detokenize allowed_token_ids bad_words_token_ids top_k min_p repetition_penalty "
    "ignore_eos min_tokens include_stop_str_in_output skip_special_tokens chat_template_args chat_template_kwargs"
)
_DYNAMO_CHAT = (
    "store metadata service_tier prompt_cache_key modalities prediction audio web_search_options function_call "
    "functions mm_processor_kwargs"
)
_EMBEDDINGS = "model input encoding_format dimensions user"


def _set(*names: str) -> frozenset[str]:
    return frozenset(" ".join(names).split())


KNOWN: Mapping[tuple[str, Endpoint], frozenset[str]] = {
    ("trtllm", Endpoint.CHAT): _set(_SAMPLING, _CHAT, _TRTLLM, _TRTLLM_CHAT),
    ("trtllm", Endpoint.COMPLETIONS): _set(_SAMPLING, "prompt suffix return_context_logits detokenize", _TRTLLM),
    ("trtllm", Endpoint.EMBEDDINGS): _set(_EMBEDDINGS, "add_special_tokens"),
    ("dynamo", Endpoint.CHAT): _set(_SAMPLING, _CHAT, _DYNAMO, _DYNAMO_CHAT) - {"best_of", "echo"},
    ("dynamo", Endpoint.COMPLETIONS): _set(_SAMPLING, "prompt suffix metadata", _DYNAMO),
    ("dynamo", Endpoint.EMBEDDINGS): _set(_EMBEDDINGS, "nvext"),
    ("openai", Endpoint.CHAT): _set(_SAMPLING, _CHAT, _DYNAMO_CHAT) - {"best_of", "echo", "mm_processor_kwargs"}
    | _set("verbosity moderation prompt_cache_key prompt_cache_retention prompt_cache_options safety_identifier")
    | _set("continue_final_message add_generation_prompt"),  # of servers that call themselves OpenAI-compatible
    ("openai", Endpoint.COMPLETIONS): _set(_SAMPLING, "prompt suffix"),
    ("openai", Endpoint.EMBEDDINGS): _set(_EMBEDDINGS),
}
"""Fields that a server knows; it answers 400 to any other. What is not listed here takes everything."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer to be put on the wire, of one choice or several."""

    dialect: str
    endpoint: Endpoint
    id: str
    created: int
    model: str
    choices: Sequence[Generated]
    prompt_tokens: int
    cached_tokens: int = 0

    @property
    def usage(self) -> dict[str, Any]:
        """The `usage` object. vLLM says nothing of cached tokens unless it is told to."""
        completion = sum(len(choice.tokens) for choice in self.choices)
        counts = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
        }
        return (
            counts
            if self.dialect == "vllm"
            else {
                **counts,
                "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            }
        )


def choices(dialect: str, wanted: int) -> int:
    """How many choices come back: Dynamo 1.6.1 gives one, whatever `n` says."""
    return 1 if dialect == "dynamo" else wanted


def answer_id(dialect: str, endpoint: Endpoint, number: int, random_bits: int) -> str:
    """An id as the server makes them; trtllm-serve counts, so that its ids collide across workers."""
    prefix = "chatcmpl-" if endpoint is Endpoint.CHAT else "cmpl-"
    if dialect == "trtllm":
        return f"{prefix}{number}"
    unique = UUID(int=random_bits, version=4)
    return f"{prefix}{unique}" if dialect == "dynamo" else f"{prefix}{unique.hex}"


def whole(reply: Reply) -> bytes:
    """The answer as one JSON object."""
    chat = reply.endpoint is Endpoint.CHAT
    choices = []
    for index, made in enumerate(reply.choices):
        choice: dict[str, Any] = {"index": index, "logprobs": None, "finish_reason": made.finish_reason}
        if chat:
            choice["message"] = {"role": "assistant", "content": made.text}
            if reply.dialect == "trtllm":
                choice["message"] |= {"reasoning_content": "", "reasoning": None, "tool_calls": []}
        else:
            choice["text"] = made.text
        if reply.dialect in {"trtllm", "vllm"}:
            choice["stop_reason"] = None
        choices.append(choice)
    return orjson.dumps(
        {
            "id": reply.id,
            "object": "chat.completion" if chat else "text_completion",
            "created": reply.created,
            "model": reply.model,
            "choices": choices,
            "usage": reply.usage,
        }
    )


def stream(reply: Reply, *, include_usage: bool) -> list[bytes]:
    """The answer as server-sent events, one bytes object per token.

    What opens the stream goes out with the first token; finish chunks, usage and `[DONE]` with the last.
    """
    head, tail = _envelope(reply, include_usage=include_usage)
    opening, closing = [], []
    for index, choice in enumerate(reply.choices):
        if reply.endpoint is Endpoint.CHAT and reply.dialect != "dynamo":
            space = b" " if reply.dialect == "trtllm" else b""
            opening.append(head + _choice(reply, index, b'{"role":"assistant","content":""}') + tail + space + b"\n\n")
        last = _choice(reply, index, b"{}" if reply.endpoint is Endpoint.CHAT else b'""', choice.finish_reason)
        closing.append(head + last + tail + b"\n\n")
    if include_usage:
        closing.append(head + b'],"usage":' + orjson.dumps(reply.usage) + b"}\n\n")
    tokens = []
    for position in range(max(len(choice.tokens) for choice in reply.choices)):
        together = [
            head + _choice(reply, index, _delta(reply, choice.tokens[position], first=position == 0)) + tail + b"\n\n"
            for index, choice in enumerate(reply.choices)
            if position < len(choice.tokens)
        ]
        tokens.append(b"".join(together))
    return enclose(opening, tokens, [*closing, DONE])


def enclose(opening: Sequence[bytes], tokens: list[bytes], closing: Sequence[bytes]) -> list[bytes]:
    """`tokens` with `opening` before the first and `closing` after the last; never empty."""
    tokens = tokens or [b""]
    tokens[0] = b"".join(opening) + tokens[0]
    tokens[-1] += b"".join(closing)
    return tokens


def _envelope(reply: Reply, *, include_usage: bool) -> tuple[bytes, bytes]:
    """What comes before and after the choices of each chunk."""
    chat = reply.endpoint is Endpoint.CHAT
    kind = "chat.completion.chunk" if chat else "text_completion"
    fields = {"id": reply.id, "object": kind, "created": reply.created, "model": reply.model}
    no_usage = not chat if reply.dialect == "dynamo" else include_usage and reply.dialect != "trtllm"
    return b"data: " + orjson.dumps(fields)[:-1] + b',"choices":[', b'],"usage":null}' if no_usage else b"]}"


def _delta(reply: Reply, token: str, *, first: bool) -> bytes:
    """The part of a choice that one token fills; Dynamo names the role in the first."""
    text = orjson.dumps(token)
    if reply.endpoint is not Endpoint.CHAT:
        return text
    return b'{"content":' + text + (b',"role":"assistant"}' if first and reply.dialect == "dynamo" else b"}")


def _choice(reply: Reply, index: int, delta: bytes, finish: str | None = None) -> bytes:
    """One entry of a chunk's `choices`.

    trtllm-serve leaves nulls out, so that `finish_reason` is absent until the end, and so does Dynamo in completions.
    """
    chat = reply.endpoint is Endpoint.CHAT
    nulls = reply.dialect in {"openai", "vllm"} or (chat and reply.dialect == "dynamo")
    start = b'{"index":%d,%b%b' % (index, b'"delta":' if chat else b'"text":', delta)
    if finish is not None:
        start += b',"finish_reason":"%b"' % finish.encode()
    elif nulls:
        start += b',"finish_reason":null'
    return start + (b',"logprobs":null}' if nulls else b"}")


def error(dialect: str, status: int, message: str, code: str | None = None) -> bytes:
    """An error body: an envelope (openai, vllm), flat (Dynamo, trtllm-serve), or trtllm-serve's for a bad body."""
    name = _NAMES.get(status, "Internal Server Error")
    if dialect == "trtllm":
        if code == "bad_body":
            return orjson.dumps({"error": message})
        kind = name.replace(" ", "") + "Error" if status < 500 else "InternalServerError"
        return orjson.dumps({"object": "error", "message": message, "type": kind, "param": None, "code": status})
    if dialect == "dynamo":
        return orjson.dumps({"message": message, "type": name, "code": status})
    kind = "server_error" if status >= 500 else "invalid_request_error"
    shown: str | int | None = status if dialect == "vllm" else code
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": shown}})


_NAMES = {
    400: "Bad Request",
    404: "Not Found",
    429: "Too Many Requests",
    503: "Service Unavailable",
    529: "Service Overloaded",
}


def error_events(dialect: str) -> list[bytes]:
    """How a stream whose worker died ends. Dynamo follows the error with `[DONE]`, as if all were well."""
    problem = {"message": "Service temporarily unavailable", "type": "service_unavailable", "code": 503}
    event = b"data: " + orjson.dumps({"error": problem}) + b"\n\n"
    return [event, DONE] if dialect == "dynamo" else [event]
