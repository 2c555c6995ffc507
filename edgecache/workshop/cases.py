"""`cases.jsonl`: what a function must answer. One JSON object a line; empty lines and lines that begin with `//` are skipped.

    {"name": "vips are greeted", "phase": "hit",
     "request": {"headers": {"x-user": "Ada"}, "body": {"choices": [{"message": {"content": "Hi {{name}}"}}]}},
     "expect": {"status": 200, "json": {"choices": [{"message": {"content": "Hi Ada"}}]}},
     "kv": {"vips": {"Ada": "1"}}, "limits": {"cpu_ms": 5}}

What a case may say (all but `name` and `expect` may be left out):

| field | meaning |
|---|---|
| `name` | what the case shows |
| `phase` | `request`, `key`, `hit` (default), `miss`, `response`, `route` |
| `request.method`, `.path`, `.headers` | of the request to the function; default: POST to `/v1/chat/completions`, no headers. In a phase the POP's own headers (`x-edgecache-*`) are added |
| `request.body` | a text, or any JSON value |
| `request.tenant`, `.model`, `.status`, `.similarity` | what `x-edgecache-tenant`, `-model`, `-status`, `-similarity` say |
| `expect.status` | of the function's response; where it is left out, any that means something in the phase |
| `expect.headers` | header values by name; `null` = the header must not be there |
| `expect.body`, `.body_contains` | the whole body; a text or a list of texts in it |
| `expect.json` | a part of the JSON body: objects may have more fields, lists have as many items, all else is equal |
| `expect.action` | `x-edgecache-action`: `miss`, `bypass`, `answer`, `refuse`; `""` = none |
| `expect.key`, `.route` | `x-edgecache-key`, `x-edgecache-route` |
| `expect.fault` | the call must fail so: `trap`, `cpu`, `wall`, `memory`, `stack`, `budget`, `answer`, `size` |
| `expect.log` | a text, or a list of texts, in the lines that it logs |
| `expect.kv` | values after the call, by store and key; `null` = the key must not be there |
| `limits` | replace those of `function.toml` for this case, by the same names: `cpu_ms`, `wall_ms`, `memory_mb`, ... |
| `kv` | what its stores hold, by store and key |
| `variables`, `secrets` | values by name, over those of `function.toml` |
| `fetch` | what the network answers: `{"url", "method", "status", "headers", "body"}`, each used once, in order for one URL; a URL that is not listed cannot be reached |
| `llm` | what the POP's models say: `{"infer": ["text", ...], "embed": [[0.1, ...], ...]}`, in order; `infer` without one repeats the prompt |
| `cache` | what `cache.lookup` finds, by question: `{"answer", "similarity"}` |
| `now` | Unix s that its clocks show |
| `seed` | a number: another one, other randomness |

What is not granted in `function.toml` is refused in a case as it is in production. Nothing leaves the machine.
"""  # noqa: E501 - a table

from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edgecache.errors import EdgeCacheError, Fault
from edgecache.functions.manifest import Phase

_LARGEST = 16 * 1024 * 1024
"""Bytes of the largest file of cases."""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of what a line holds: unknown fields are mistakes."""


class Asked(_Part, frozen=True):
    """The request of a case."""

    method: str = "POST"
    path: str = "/v1/chat/completions"
    headers: dict[str, str] = {}
    body: Any = ""
    tenant: str = "default"
    model: str = "edge-test"
    status: str = "HIT"
    similarity: float | None = None

    def raw(self) -> bytes:
        """The body as bytes."""
        return raw(self.body)


class Expected(_Part, frozen=True):
    """What the function must do; UNSET where any will do."""

    status: int | None = None
    headers: dict[str, str | None] = {}
    body: str | None = None
    body_contains: str | tuple[str, ...] = ()
    json: Any = msgspec.UNSET
    action: str | None = None
    key: str | None = None
    route: str | None = None
    fault: Fault | None = None
    log: str | tuple[str, ...] = ()
    kv: dict[str, dict[str, str | None]] = {}


class Fetched(_Part, frozen=True):
    """What the network answers to one request."""

    url: str
    method: str = "GET"
    status: int = 200
    headers: dict[str, str] = {}
    body: Any = ""

    def raw(self) -> bytes:
        """The body as bytes."""
        return raw(self.body)


class Said(_Part, frozen=True):
    """What the POP's models say, in order."""

    infer: tuple[str, ...] = ()
    embed: tuple[tuple[float, ...], ...] = ()


class Known(_Part, frozen=True):
    """What the cache holds for one question."""

    answer: Any
    similarity: float = 1.0

    def raw(self) -> bytes:
        """The answer as bytes."""
        return raw(self.answer)


class Case(_Part, frozen=True):
    """One line of `cases.jsonl`."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    expect: Expected
    phase: Phase = Phase.HIT
    request: Asked = Asked()
    limits: dict[str, int] = {}
    kv: dict[str, dict[str, str]] = {}
    variables: dict[str, str] = {}
    secrets: dict[str, str] = {}
    fetch: tuple[Fetched, ...] = ()
    llm: Said = Said()
    cache: dict[str, Known] = {}
    now: float = 1_750_000_000.0
    seed: Annotated[int, Meta(ge=0)] = 0


def raw(body: Any) -> bytes:
    """What a case says as bytes: a text as it is, anything else as JSON."""
    return body.encode() if isinstance(body, str) else msgspec.json.encode(body)


def parse(text: str, where: str) -> tuple[Case, ...]:
    """The cases in `text`, the content of the file called `where`.

    Raises:
        EdgeCacheError: names the line and what is wrong with it, or the two cases of one name.
    """
    found: dict[str, Case] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("//"):
            continue
        try:
            case = msgspec.json.decode(line, type=Case)
        except msgspec.DecodeError as error:  # of which ValidationError is one
            raise EdgeCacheError(f"{where}:{number}: {error}") from error
        if case.name in found:
            raise EdgeCacheError(f"{where}:{number}: there are two cases called {case.name!r}")
        found[case.name] = case
    return tuple(found.values())


def read(file: Path) -> tuple[Case, ...]:
    """The cases in `file`. Raises EdgeCacheError where there are none or one is unsound."""
    try:
        if (size := file.stat().st_size) > _LARGEST:
            raise EdgeCacheError(f"{file}: {size} bytes of cases, at most {_LARGEST}")
        found = parse(file.read_text(encoding="utf-8"), str(file))
    except UnicodeDecodeError as error:
        raise EdgeCacheError(f"{file}: is not UTF-8") from error
    except OSError as error:
        raise EdgeCacheError(f"{file}: {error.strerror}") from error
    if not found:
        raise EdgeCacheError(f"{file}: holds no case; write one a line")
    return found
