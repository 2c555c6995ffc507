"""Upstreams from a file that something else writes: a JSON list of tables with the keys of `[[upstream]]`.

The way of Prometheus' `file_sd`: whatever knows which clusters there are (a script, an agent, Kubernetes by a mounted
map) writes the file, best by renaming a new one over it. A file that cannot be used changes nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edgecache.config import Config, Upstream, check

log = logging.getLogger(__name__)

_INTERVAL = 2.0
"""Seconds between two looks at the file."""

Signature = tuple[int, int, int]


class Discovery:
    """Watches `file`; `found` is the last list that could be used, empty before there was one."""

    def __init__(self, file: str, changed: Callable[[list[Upstream]], None], *, interval: float = _INTERVAL) -> None:
        """`changed` is called on the event loop, with every new list."""
        self.file = Path(file)
        self.found: list[Upstream] = []
        self._changed = changed
        self._interval = interval
        self._seen: Signature | None = None
        self._problem = ""

    async def run(self) -> None:
        """Look at the file now and then; never returns."""
        while True:
            await self.look()
            await asyncio.sleep(self._interval)

    async def look(self) -> None:
        """Read the file if it has changed since the last look."""
        try:
            read = await asyncio.to_thread(self._read)
            if read is None:
                return
            found = parse(read)
        except (OSError, ValueError) as error:
            self._complain(error.strerror or str(error) if isinstance(error, OSError) else str(error))
            return
        self._problem = ""
        if found != self.found:
            self.found = found
            log.info("%s: %d upstreams", self.file, len(found))
            self._changed(found)

    def _read(self) -> bytes | None:
        """What is in the file; None = nothing has changed. A change while it is read is seen at the next look."""
        status = self.file.stat()
        signature = status.st_mtime_ns, status.st_size, status.st_ino
        if signature == self._seen:
            return None
        body = self.file.read_bytes()
        self._seen = signature
        return body

    def _complain(self, problem: str) -> None:
        """Once for each thing that is wrong."""
        if problem != self._problem:
            self._problem = problem
            log.error("%s: %s; the %d upstreams found before stay", self.file, problem, len(self.found))


def parse(body: bytes) -> list[Upstream]:
    """The upstreams of a file. Raises ValueError: what is wrong with it, and where."""
    try:
        found = msgspec.json.decode(body, type=list[Upstream])
    except msgspec.ValidationError as error:
        raise ValueError(f"not a list of upstreams: {error}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    findings = check.findings(Config(upstream=tuple(found)))
    if problems := [f"{key.removeprefix('upstream') or 'names'}: {what}" for key, what in findings if _ours(key)]:
        raise ValueError("; ".join(problems))
    return found


def merged(configured: Sequence[Upstream], found: Sequence[Upstream]) -> list[Upstream]:
    """Both, the configured ones first. One that has the name of a configured one is left out, with a warning."""
    names = {upstream.name for upstream in configured}
    for upstream in found:
        if upstream.name in names:
            log.warning("upstream %s is configured: the discovered one of this name is left out", upstream.name)
    return [*configured, *(upstream for upstream in found if upstream.name not in names)]


def _ours(key: str) -> bool:
    return key == "upstream" or key.startswith("upstream[")
