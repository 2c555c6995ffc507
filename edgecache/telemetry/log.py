"""Log lines on standard error: JSON when it is not a terminal. The access log never blocks a request.

Control characters cannot reach the terminal or forge a line: everything is JSON-encoded. Prompts are never logged.
"""

import logging
import sys
import threading
from typing import Any, TextIO

import orjson

from edgecache.telemetry.metrics import Metrics


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, error."""

    def format(self, record: logging.LogRecord) -> str:
        """Encode `record`."""
        line: dict[str, Any] = {
            "ts": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def setup(level: str, stream: TextIO | None = None) -> None:
    """Send the `edgecache` loggers to `stream` (standard error) from `level` on."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    if not stream.isatty():
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(levelname)-7s %(name)s: %(message)s"))
    root = logging.getLogger("edgecache")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


class AccessLog:
    """One JSON line a request, written by a thread of its own so that a slow reader never slows an answer."""

    def __init__(self, stream: TextIO, metrics: Metrics, *, capacity: int = 65_536, interval: float = 0.05) -> None:
        """Args: `capacity` lines may wait, more are dropped and counted; `interval` seconds between writes."""
        self._stream = stream
        self._metrics = metrics
        self._capacity = capacity
        self._interval = interval
        self._lines: list[bytes] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, line: dict[str, Any]) -> None:
        """Queue one line; never blocks.

        Encoded here and not by the writer: one microsecond costs less than two threads taking turns at the lock.
        """
        if len(self._lines) >= self._capacity:
            self._metrics.log_dropped.inc()
            return
        self._lines.append(orjson.dumps(line))

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self._stream.write(b"\n".join(lines).decode() + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Write what waits and stop."""
        self._stop.set()
        self._thread.join(timeout=5)
