"""Whether this POP runs functions, and with what."""

import faulthandler
import logging
from pathlib import Path

from edgecache.clock import Clock
from edgecache.config import Config
from edgecache.errors import ConfigError
from edgecache.functions.answers import Answers
from edgecache.functions.runtime import Runtime
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


def runtime(
    config: Config, answers: Answers, *, clock: Clock, metrics: Metrics, tasks: Tasks
) -> tuple[Runtime | None, str]:
    """What runs the functions of a POP, and why it has none although it should.

    A POP that never had any can do without. Raises ConfigError where those it has cannot be run: a function may be what
    keeps an answer from those whom it does not concern.
    """
    folder = Path(config.server.data) / "functions"
    if not config.functions.enabled:
        return None, ""
    if not faulthandler.is_enabled():
        faulthandler.enable()  # before the engine: see decision 0011
    had_any = folder.is_dir()
    sync = config.store.sync
    try:
        made = Runtime(folder, config.functions, answers, sync=sync, clock=clock, metrics=metrics, tasks=tasks)
    except (ConfigError, OSError) as error:
        if had_any:
            raise ConfigError(f"functions cannot be run: {error}") from error
        log.error("serving without functions: %s", error)  # noqa: TRY400 - the message says it all
        return None, str(error)
    return made, ""
