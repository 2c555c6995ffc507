"""What the body of a request holds, as far as an upstream has to have it in it to answer. Pure.

Only what `wire.requests` has checked is relied on; everything else may be anything.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from edgecache.router.demand import Feature, Prefix
from edgecache.types import Endpoint

OVERHEAD: Final = 4
"""Tokens that a chat template puts around a message, beside its role."""
MEDIA: Final = 1000
"""Tokens of a picture or a sound, of which nothing is known: from 85 to a few thousand, by model and size."""
MOST: Final = 8
"""Prefixes of a prompt. From `_ENDS` messages on that many of them are ends of messages, the rest lengths."""

_ENDS: Final = 5
_STEP: Final = 2048
"""Bytes to the first prefix that is not the end of a message; each next one is twice as long."""
_SAMPLE: Final = 2048
"""Bytes of a picture's either end: enough to tell it from others."""
_PARTS = {"content", "output"}
"""What has parts: a message, and in a Responses input the result of a tool."""
_TOOLS, _VISION, _AUDIO = int(Feature.TOOLS), int(Feature.VISION), int(Feature.AUDIO)
_NEEDY = frozenset(
    ("tools", "functions", "response_format", "text", "logprobs", "top_logprobs", "include", "modalities")
)
"""Fields that may ask for more than text."""
_INSTRUCTIONS = ("system", "developer")
_MEDIA_PARTS = {
    "image_url": _VISION,
    "input_image": _VISION,
    "image": _VISION,
    "video_url": _VISION,
    "input_audio": _AUDIO,
    "audio_url": _AUDIO,
}
_FORMATS = {
    "json_object": int(Feature.JSON_OBJECT),
    "json_schema": int(Feature.JSON_SCHEMA),
    "json": int(Feature.JSON_SCHEMA),  # TensorRT-LLM's
}
_LIMITS = {
    Endpoint.CHAT: ("max_completion_tokens", "max_tokens"),
    Endpoint.COMPLETIONS: ("max_tokens",),
    Endpoint.RESPONSES: ("max_output_tokens",),
    Endpoint.EMBEDDINGS: (),
}
_json = msgspec.json.Encoder().encode


class Piece(NamedTuple):
    """A message, or a text: its bytes, how many of them are text, and tokens that it has beside those of its text."""

    data: bytes
    size: int
    fixed: int = 0


class Prompt(NamedTuple):
    """The prompt of a request, its pieces in order.

    `features` are those of `Feature`, as bits. `turns` are messages other than instructions. `one`: the pieces follow
    each other in one context, rather than being prompts of their own.
    """

    pieces: Sequence[Piece]
    features: int = 0
    turns: int = 1
    one: bool = True

    @property
    def size(self) -> int:
        """Bytes of text."""
        return sum([piece.size for piece in self.pieces])

    @property
    def fixed(self) -> int:
        """Tokens beside those of the text."""
        return sum([piece.fixed for piece in self.pieces])

    @property
    def media(self) -> bool:
        """Whether there are pictures or sounds, whose tokens are guessed."""
        return guessed(self.features)

    def text(self) -> str:
        """All of it; only without `media`."""
        return b"\n".join(piece.data for piece in self.pieces if piece.size).decode()


def guessed(features: int) -> bool:
    """Whether there are pictures or sounds, whose tokens are guessed."""
    return bool(features & (_VISION | _AUDIO))


def read(endpoint: Endpoint, body: Mapping[str, Any]) -> Prompt:
    """The prompt in the `body` of a request to `endpoint`."""
    if endpoint is Endpoint.CHAT:
        return _conversation(body, (), body["messages"])
    if endpoint is Endpoint.COMPLETIONS:
        return _texts(body.get("prompt"), _needs(body) & ~_TOOLS & ~_AUDIO)
    if endpoint is Endpoint.EMBEDDINGS:
        return _texts(body.get("input"), 0)._replace(one=False)
    instructions, given = body.get("instructions"), body.get("input")
    opening = () if not instructions else ({"role": "system", "content": instructions},)
    items = given if isinstance(given, list) else () if given is None else ({"role": "user", "content": given},)
    return _conversation(body, opening, items)


def limit(endpoint: Endpoint, body: Mapping[str, Any]) -> int:
    """The most tokens that an answer may have; 0 = not said."""
    for name in _LIMITS[endpoint]:
        if found := _count(body.get(name)):
            return found
    return 0


def choices(body: Mapping[str, Any]) -> int:
    """How many answers are asked for."""
    return _count(body.get("n")) or 1


def lora(body: Mapping[str, Any]) -> str:
    """The LoRA adapter that is asked for (`lora_request` of TensorRT-LLM); empty = none."""
    asked = body.get("lora_request")
    name = asked.get("lora_name") if isinstance(asked, dict) else None
    return name if isinstance(name, str) else ""


def prefixes(prompt: Prompt, seed: bytes, ratio: float) -> tuple[Prefix, ...]:
    """Beginnings of the prompt that another may share, shortest first, at most `MOST`.

    They end where the first message does, often the instructions that all conversations begin with, and where the last
    messages do, which the next turn of the same one will begin with; and, inside long messages, at 2 KB times powers of
    two, the same places however long a prompt is. `seed` separates what must never count as shared; `ratio` is tokens
    a byte of text.
    """
    if not prompt.one:
        return ()
    hasher = blake2b(seed, digest_size=16)
    steps: list[Prefix] = []
    ends: list[Prefix] = []
    place, step, tokens = 0, _STEP, 0.0
    recent = len(prompt.pieces) - _ENDS
    for at, (data, size, fixed) in enumerate(prompt.pieces):
        length, done = len(data), 0
        own = fixed + size * ratio
        while place + length > step:
            hasher.update(data[done : step - place])
            done = step - place
            steps.append(Prefix(hasher.digest(), int(tokens + own * done / length)))
            step *= 2
        hasher.update(data[done:] if done else data)
        place += length
        tokens += own
        if at == 0 or at > recent:
            ends.append(Prefix(hasher.digest(), int(tokens)))
    if not steps:
        return tuple(ends)
    kept = dict.fromkeys((*steps[len(ends) - MOST :], *ends))  # once each: a step may be the end of a message too
    return tuple(sorted(kept, key=lambda prefix: prefix.tokens))


def _texts(given: Any, features: int) -> Prompt:
    """Prompts that no template is put around: one text, several, or token ids of one or several."""
    if isinstance(given, str):
        return Prompt((_text(given),), features)
    if not isinstance(given, list) or not given:
        return Prompt((), features, turns=0)
    if isinstance(given[0], int):
        return Prompt((Piece(_json(given), 0, len(given)),), features, turns=0)
    pieces = [_text(each) if isinstance(each, str) else Piece(_json(each), 0, len(each)) for each in given]
    return Prompt(pieces, features, turns=len(pieces), one=len(pieces) == 1)


def _text(text: str) -> Piece:
    data = text.encode("utf-8", "replace")
    return Piece(data, len(data))


def _conversation(body: Mapping[str, Any], opening: Sequence[Any], items: Sequence[Any]) -> Prompt:
    features = _needs(body)
    pieces = []
    turns = 0
    for item in (*opening, *items):
        piece, needs = _message(item)
        pieces.append(piece)
        features |= needs
        turns += item.get("role") not in _INSTRUCTIONS
    if features & _TOOLS and pieces:
        told, first = _json(body.get("tools") or body.get("functions")), pieces[0]
        pieces[0] = Piece(told + first.data, len(told) + first.size, first.fixed)
    return Prompt(pieces, features, turns)


def _message(item: Mapping[str, Any]) -> tuple[Piece, int]:
    """A message, or an item of a Responses input, and what its parts need."""
    role, content = item.get("role"), item.get("content")
    if isinstance(content, str) and len(item) == 2:  # nearly every message
        data = f"{role}\n{content}".encode("utf-8", "replace")
        return Piece(data, len(data), OVERHEAD), 0
    told, shown, features, media = [f"{role}\n".encode("utf-8", "replace")], b"", 0, 0
    for name, value in item.items():
        if name == "role":
            continue
        for part in value if isinstance(value, list) and name in _PARTS else (value,):
            needs = _MEDIA_PARTS.get(str(part.get("type")), 0) if isinstance(part, dict) else 0
            if needs:
                features |= needs
                media += 1
                shown += _sample(part)
            elif part is not None:
                told.append(_said(part))
    data = b"\n".join(told)
    return Piece(data + shown, len(data), OVERHEAD + MEDIA * media), features


def _said(part: Any) -> bytes:
    """The text of a part, or all of it where it has none."""
    text = part.get("text") if isinstance(part, dict) else part
    return text.encode("utf-8", "replace") if isinstance(text, str) else _json(part)


def _sample(part: Any) -> bytes:
    data = _json(part)
    return data if len(data) <= 2 * _SAMPLE else data[:_SAMPLE] + data[-_SAMPLE:]


def _needs(body: Mapping[str, Any]) -> int:
    """The features that the fields of a request ask for; most have none of these."""
    if _NEEDY.isdisjoint(body):
        return 0
    return _tools(body) | _format(body) | _logprobs(body) | _spoken(body)


def _tools(body: Mapping[str, Any]) -> int:
    """Tools, unless they must not be used; `functions` is what they were called first."""
    tools = bool(body.get("tools")) and body.get("tool_choice") != "none"
    functions = bool(body.get("functions")) and body.get("function_call") != "none"
    return _TOOLS if tools or functions else 0


def _format(body: Mapping[str, Any]) -> int:
    """`response_format` of chats and completions, `text.format` of responses."""
    text = body.get("text")
    asked = body.get("response_format") or (text.get("format") if isinstance(text, dict) else None)
    kind = asked.get("type") if isinstance(asked, dict) else None
    return _FORMATS.get(kind, 0) if isinstance(kind, str) else 0


def _logprobs(body: Mapping[str, Any]) -> int:
    """`logprobs` is a flag in chats and a number in completions, where 0 asks for those of the chosen tokens."""
    asked = body.get("logprobs")
    included = body.get("include")
    wanted = (asked is not None and asked is not False) or bool(body.get("top_logprobs"))
    if wanted or (isinstance(included, list) and "message.output_text.logprobs" in included):
        return int(Feature.LOGPROBS)
    return 0


def _spoken(body: Mapping[str, Any]) -> int:
    """Whether the answer is to be spoken."""
    asked = body.get("modalities")
    return _AUDIO if isinstance(asked, list) and "audio" in asked else 0


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0
