"""`log`: a line of the function's own log, where its developer sees it."""

from collections.abc import Iterable, Mapping

from edgecache.functions.host.calling import Calling, Operation
from edgecache.functions.journal import LEVELS
from edgecache.wasm.hostcalls import Code, HostRefused

_LEVELS = {level.encode(): level for level in LEVELS}


def _log(calling: Calling, fields: list[bytes]) -> Iterable[bytes]:
    said, line = fields
    level = _LEVELS.get(said)
    if level is None:
        raise HostRefused(Code.INVALID, f"a log level is one of {', '.join(LEVELS)}, not {said[:20]!r}")
    budget = calling.budget
    if budget.log(len(line)):
        calling.publish("log", level, line.decode(errors="replace"))
    elif budget.dropped == 1:
        calling.publish("log", "warn", f"log lines beyond {calling.grants.log} bytes a call are dropped (log_bytes)")
    return ()


OPERATIONS: Mapping[str, Operation] = {"log": Operation(_log, "level, text", 2, 2)}
