"""What a function did beside what a case expects, as lines to read. Pure."""

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from edgecache.functions.phases import ACTION, KEY, ROUTE
from edgecache.wasm.base import Response
from edgecache.workshop.cases import Expected

_SHOWN = 300
"""Characters of a value that are shown."""


def differences(expect: Expected, response: Response) -> list[str]:
    """A line, or a few, for everything in `response` that is not as expected; empty if all is well."""
    headers = dict(response.headers)
    return [
        *_plain("status", expect.status, response.status),
        *_plain(ACTION, expect.action, headers.get(ACTION, "")),
        *_plain(KEY, expect.key, headers.get(KEY, "")),
        *_plain(ROUTE, expect.route, headers.get(ROUTE, "")),
        *_headers(expect.headers, headers),
        *_body(expect, response.body),
    ]


def _plain(what: str, expected: Any, got: Any) -> list[str]:
    return [] if expected is None or expected == got else [f"{what}: expected {expected!r}, got {got!r}"]


def _headers(expected: Mapping[str, str | None], got: Mapping[str, str]) -> Iterator[str]:
    for name, value in expected.items():
        there = got.get(name.lower())
        if value != there:
            yield f"header {name}: expected {_or_none(value)}, got {_or_none(there)}"


def _or_none(value: str | None) -> str:
    return "none" if value is None else _short(value)


def _body(expect: Expected, body: bytes) -> Iterator[str]:
    text = body.decode("utf-8", "backslashreplace")
    if expect.body is not None and expect.body != text:
        yield from diff("body", expect.body, text)
    yield from missing("body", expect.body_contains, text)
    if expect.json is not msgspec.UNSET:
        try:
            got = msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            yield f"body: expected JSON, got {_short(text)} ({error})"
        else:
            yield from part("$", expect.json, got)


def missing(what: str, expected: str | tuple[str, ...], text: str) -> Iterator[str]:
    """A line for each of the expected texts that is not in `text`."""
    for each in (expected,) if isinstance(expected, str) else expected:
        if each not in text:
            yield f"{what}: expected {_short(each)} in it, got {_short(text)}"


def part(place: str, expected: Any, got: Any) -> Iterator[str]:
    """A line for every place where `got` is not as `expected`; objects may have fields that are not expected."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for name, value in expected.items():
            if name in got:
                yield from part(f"{place}.{name}", value, got[name])
            else:
                yield f"{place}.{name}: expected {_short(value)}, got no such field"
    elif isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            yield f"{place}: expected {len(expected)} items, got {len(got)}: {_short(got)}"
        for number, (one, other) in enumerate(zip(expected, got, strict=False)):
            yield from part(f"{place}[{number}]", one, other)
    elif not _equal(expected, got):
        yield f"{place}: expected {_short(expected)}, got {_short(got)}"


def _equal(expected: Any, got: Any) -> bool:
    """As JSON has it: `true` is not 1."""
    return bool(expected == got) and isinstance(expected, bool) == isinstance(got, bool)


def diff(what: str, before: str, after: str) -> list[str]:
    """Two texts side by side where they are short, else the lines that differ."""
    if before == after:
        return []
    one, other = pretty(before).splitlines(), pretty(after).splitlines()
    if len(one) <= 1 and len(other) <= 1:
        return [f"{what}: - {_short(before)}", f"{what}: + {_short(after)}"]
    lines = list(difflib.unified_diff(one, other, lineterm="", n=1))[2:]
    return [f"{what}: {line}" for line in lines if not line.startswith("@@")]


def pretty(text: str) -> str:
    """JSON a field a line; any other text as it is."""
    try:
        return json.dumps(json.loads(text), indent=1, ensure_ascii=False)
    except ValueError:
        return text


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
