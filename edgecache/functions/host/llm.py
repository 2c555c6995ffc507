"""`llm.infer`, `llm.embed` and `cache.lookup`: this POP's own answers. What they are is `Answers`' part."""

import math
from collections.abc import Iterable, Mapping

import msgspec

from edgecache.functions.answers import Options
from edgecache.functions.host.calling import Calling, Operation, text
from edgecache.wasm.hostcalls import Code, HostRefused

_MOST_TEXTS = 256
"""Texts of one `llm.embed`."""


def _infer(calling: Calling, fields: list[bytes]) -> Iterable[bytes]:
    model, prompt, *said = (text(field) for field in fields)
    calling.about(model, effect=True)
    calling.grants.model(model)
    found = calling.wait(calling.services.answers.infer(calling.context, model, prompt, _options(said)))
    calling.tokens = {"prompt": found.prompt_tokens, "completion": found.completion_tokens}
    return found.text.encode(), b"%d" % found.prompt_tokens, b"%d" % found.completion_tokens


def _embed(calling: Calling, fields: list[bytes]) -> Iterable[bytes]:
    model, *texts = (text(field) for field in fields)
    calling.about(model)
    calling.grants.model(model)
    if len(texts) > _MOST_TEXTS:
        raise HostRefused(Code.INVALID, f"llm.embed takes {_MOST_TEXTS} texts at most, not {len(texts)}")
    tokens, vectors = calling.wait(calling.services.answers.embed(calling.context, model, texts))
    calling.tokens = {"prompt": tokens}
    return b"%d" % tokens, *vectors


def _lookup(calling: Calling, fields: list[bytes]) -> Iterable[bytes]:
    model, question = (text(field) for field in fields)
    calling.about(model)
    calling.grants.lookup()
    found = calling.wait(calling.services.answers.lookup(calling.context, model, question))
    return () if found is None else (found.answer, b"%.6f" % found.similarity, b"%d" % found.entry)


def _options(said: list[str]) -> Options:
    """The options in their order; an empty one is left out."""
    values = {
        field.name: _number(field.name, value)
        for field, value in zip(msgspec.structs.fields(Options), said, strict=False)
        if value
    }
    try:
        return msgspec.convert(values, Options)
    except msgspec.ValidationError as error:
        raise HostRefused(Code.INVALID, f"llm.infer: {error}") from error


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise HostRefused(Code.INVALID, f"llm.infer: {name} is a number, not {value[:40]!r}")
    return int(number) if number.is_integer() else number


OPERATIONS: Mapping[str, Operation] = {
    "llm.infer": Operation(
        _infer, "model, prompt[, max_tokens, repeat_penalty, repeat_last_n, temperature, top_k, top_p]", 2, 8
    ),
    "llm.embed": Operation(_embed, "model, texts", 1, None),
    "cache.lookup": Operation(_lookup, "model, question", 2, 2),
}
