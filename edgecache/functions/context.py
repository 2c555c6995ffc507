"""Of which request a call of a function is part: whose it is, and how long it may still take."""

import msgspec

from edgecache.functions.manifest import Phase
from edgecache.types import Tenant
from edgecache.wasm.base import Host


class Context(msgspec.Struct, frozen=True):
    """One call of a function.

    `tenant` is whose request it serves, with the credential that may travel upstream; `deadline` is when the call must
    have ended, as `Clock.monotonic()` has it. `stream` answers `body.*` where bodies come and go in parts.
    """

    tenant: Tenant
    phase: Phase
    deadline: float
    request_id: str = ""
    model: str = ""
    stream: Host | None = None
