"""What the scripted core saw of its clients: counters and the last request, for tests and for `/admin/seen`."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(slots=True)
class Seen:
    """Counters since the start (or the last reset), and the last API request.

    `disconnected` counts requests whose client left before the answer was complete, `failures` injected failures by
    type, `refused` requests turned away by a full queue, `finished` complete answers. `salts` and `priorities` count
    accepted requests by what they carried (`""` = no salt; no priority is not counted). `prompts`, those that were
    read, and the tokens are counted by model: see `Tally`.
    """

    requests: int = 0
    streams: int = 0
    disconnected: int = 0
    refused: int = 0
    finished: int = 0
    paths: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    salts: Counter[str] = field(default_factory=Counter)
    priorities: Counter[float] = field(default_factory=Counter)
    prompts: Counter[str] = field(default_factory=Counter)
    prompt_tokens: Counter[str] = field(default_factory=Counter)
    cached_tokens: Counter[str] = field(default_factory=Counter)
    generated_tokens: Counter[str] = field(default_factory=Counter)
    method: str = ""
    path: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes = b""

    def note(self, method: str, path: str, headers: Mapping[str, str], raw: bytes) -> None:
        """Count a request and keep it as the last one."""
        self.requests += 1
        self.paths[path] += 1
        self.method, self.path, self.headers, self.raw = method, path, headers, raw

    @property
    def body(self) -> Any:
        """The last request's body, decoded; None where it is not JSON."""
        try:
            return orjson.loads(self.raw)
        except orjson.JSONDecodeError:
            return None

    def as_json(self) -> dict[str, Any]:
        """What `/admin/seen` answers with."""
        counters = ("paths", "failures", "salts", "prompts", "prompt_tokens", "cached_tokens", "generated_tokens")
        return {
            "requests": self.requests,
            "streams": self.streams,
            "disconnected": self.disconnected,
            "refused": self.refused,
            "finished": self.finished,
            **{name: dict(getattr(self, name)) for name in counters},
            "priorities": {f"{priority:g}": count for priority, count in self.priorities.items()},
            "last": {
                "method": self.method,
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": self.body,
            },
        }


class Tally:
    """Counts the tokens of one answer while it is made, so that one that is cut, or that nobody waits for, counts too.

    The prompt counts once its first token is out, as in vLLM: a request that ends before it has cost nothing.
    """

    def __init__(self, seen: Seen, model: str, prompt_tokens: int, cached_tokens: int = 0) -> None:
        self._seen = seen
        self._model = model
        self._prompt = prompt_tokens
        self._cached = cached_tokens
        self._begun = False

    def made(self, tokens: int) -> None:
        """So many more tokens; the prompt has been read."""
        seen, model = self._seen, self._model
        if not self._begun:
            self._begun = True
            seen.prompts[model] += 1
            seen.prompt_tokens[model] += self._prompt
            seen.cached_tokens[model] += self._cached
        seen.generated_tokens[model] += tokens
