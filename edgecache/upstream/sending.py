"""How a call is sent to one upstream, apart from what it asks: made by the router, read by client and dialects."""

import msgspec

from edgecache.types import ServiceClass


class Sending(msgspec.Struct, frozen=True):
    """All optional; times in seconds, 0 = the upstream's own, else the smaller of the two holds.

    `model` takes the place of the one asked for, empty = as asked. `written` is the answer so far, where another
    upstream's is to be continued, and `written_tokens` its length. `service` is told to upstreams that know
    priorities. `due` is how long the answer may take; `hops` how many POPs have handed the request on, this one
    included. `patience` is after how long the caller cancels what has brought nothing to read, 0 = it may never.
    """

    model: str = ""
    service: ServiceClass | None = None
    written: str = ""
    written_tokens: int = 0
    connect_timeout: float = 0.0
    first_byte_timeout: float = 0.0
    idle_timeout: float = 0.0
    due: float | None = None
    hops: int = 0
    patience: float = 0.0
