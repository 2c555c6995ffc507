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
    type, `refused` requests turned away by a full queue.
    """

    requests: int = 0
    streams: int = 0
    disconnected: int = 0
    refused: int = 0
    paths: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
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
        return {
            "requests": self.requests,
            "streams": self.streams,
            "disconnected": self.disconnected,
            "refused": self.refused,
            "paths": dict(self.paths),
            "failures": dict(self.failures),
            "last": {
                "method": self.method,
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": self.body,
            },
        }
