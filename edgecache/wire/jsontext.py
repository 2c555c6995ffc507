"""JSON text from strangers: decoded without any exception but one, and its nesting bounded."""

from typing import Any

import msgspec

encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class JsonError(ValueError):
    """The bytes are not one JSON document; the message says what is wrong and at which byte."""


def decode(raw: bytes) -> Any:
    """The value of a JSON document (RFC 8259). NaN, Infinity, a BOM and lone surrogates are refused.

    Raises JsonError, also for nesting deeper than the interpreter's stack.
    """
    try:
        return _decode(raw)
    except RecursionError as error:
        raise JsonError("nested too deeply") from error
    except UnicodeDecodeError as error:
        raise JsonError(f"not UTF-8: {error.reason}") from error
    except msgspec.DecodeError as error:
        # msgspec calls a lone surrogate before a closing quote "truncated", which sends people looking at lengths.
        hint = " (or a lone surrogate escape)" if b"\\ud" in raw.lower() else ""
        raise JsonError(f"{error}{hint}") from error


def deeper_than(limit: int, raw: bytes, value: Any) -> bool:
    """Whether `value`, decoded from `raw`, nests more than `limit` objects and arrays into each other."""
    if raw.count(b"{") + raw.count(b"[") <= limit:  # too few brackets for it: nearly every request ends here
        return False
    level = [value]
    for _ in range(limit):
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True
