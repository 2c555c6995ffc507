"""What became of an answer: finished, and in the form that is kept, or not, and why."""

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Finished:
    """An answer that ended well, as one canonical OpenAI object.

    `finish_reason` is `stop`, `length`, `tool_calls` or `function_call`; of several choices, the first that is not
    `stop`. The counts are the upstream's own, None where it sent none. Whether to keep the answer is `cache.policy`'s
    business.
    """

    body: bytes
    finish_reason: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tool_calls: bool = False


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An answer that must not be kept.

    `reason` is one of: `not_json`, `malformed`, `null`, `error`, `no_choices`, `no_finish_reason`, `finish_reason` (one
    that means no end), `content_filter`, `refusal`, `empty`, `no_done`, `after_done`, `status`, `not_completed`,
    `no_data`.
    """

    reason: str


class Usage(msgspec.Struct):
    """Token counts, as chat and completions name them (`prompt`) and as Responses does (`input`)."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
