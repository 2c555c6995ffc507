r"""The one import of a sandbox, `call(op, argument) -> answer`: the operations there are, and how they are framed.

Arguments and answers are netstrings (`base.pack`). An answer is `=` and its fields, or `!code\nmessage`. What an
operation does, and whether a function may, is `functions.capabilities`' part.

| op | argument | answer |
|---|---|---|
| `log` | level (trace debug info warn error), text | |
| `kv.open` | store | |
| `kv.get` | store, key | value, or no field |
| `kv.set` | store, key, value[, s to live] | |
| `kv.delete` | store, key | |
| `kv.exists` | store, key | `1` or `0` |
| `kv.keys` | store[, prefix] | keys |
| `kv.increment` | store, key, delta | the new number, decimal |
| `kv.swap` | store, key, `=` or `-`, expected, new[, s to live] | `1` or `0`; `-` expects no value |
| `var.get` | name | value |
| `fetch` | method, URL, body, then name and value of each header | status, body, then name and value of each header |
| `llm.infer` | model, prompt, max_tokens, repeat_penalty, repeat_last_n, temperature, top_k, top_p | text, prompt tokens, completion tokens |
| `llm.embed` | model, texts | prompt tokens, then each vector (float32, little-endian) |
| `cache.lookup` | model, question | answer (OpenAI JSON), similarity, entry; or no field |
| `body.read` | | the next part, or no field at the end |
| `body.head` | status, then name and value of each header | |
| `body.write` | part | |
"""  # noqa: E501 - a table

from enum import StrEnum

from edgecache.wasm.base import pack, unpack


class Code(StrEnum):
    """Why a host call was refused."""

    DENIED = "denied"
    """Not granted by the manifest, or not by the operator."""
    INVALID = "invalid"
    """The argument is not what the operation takes."""
    NOT_FOUND = "not-found"
    """No such store, variable or model."""
    QUOTA = "quota"
    """It would take more than the function may keep."""
    TIMEOUT = "timeout"
    """No answer in the time that was left."""
    UNAVAILABLE = "unavailable"
    """What it needs does not work now."""


class HostRefused(Exception):
    """A host call that gets no answer, and why: told to the function, which may go on."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def answered(*fields: bytes) -> bytes:
    """The answer that carries `fields`."""
    return b"=" + pack(*fields)


def refused(code: Code, message: str) -> bytes:
    """The answer that says no."""
    return f"!{code}\n{message}".encode()


def result(answer: bytes) -> list[bytes]:
    """The fields of an answer; raises HostRefused for a refusal, ValueError for what is neither."""
    if answer[:1] == b"!":
        code, _, message = answer[1:].decode().partition("\n")
        raise HostRefused(Code(code), message)
    if answer[:1] != b"=":
        raise ValueError("an answer begins with `=` or `!`")
    return unpack(answer[1:])
