"""The error tree, with the HTTP status, OpenAI type and code of each.

* EdgeCacheError
  x ConfigError                  the daemon refuses to start (exit 78)
  x ClientError                  the request is at fault; never retried
    + BadRequest 400, Unauthorized 401, Forbidden 403, UnknownUrl 404, MethodNotAllowed 405, ModelNotFound 404,
      NotFound 404, RequestTimeout 408, TooLarge 413, UnsupportedMedia 415, RateLimited 429, HeadersTooLarge 431,
      ResidencyRefused 451
  x ServerError                  this POP is at fault or too busy
    + Overloaded 503, NotCached 504
  x FunctionRefused 422            an upload that is not taken; the message says by which rule
  x FunctionFault 502              a call of a function that did not end well: `fault` says how
  x UpstreamError                the cluster behind the POP is at fault; retried only before the first response byte
    + UpstreamUnreachable 502, UpstreamTimeout 504, UpstreamDied 502, NoUpstream 503
  x CacheSideError               whatever fails on the cache side: counted, logged and treated as a miss
    + EmbedError: EmbedTimeout, TextTooLong
    + StoreError: StoreFull, StoreCorrupt, StoreReadOnly

Foreign errors are translated at the border of the package that owns the dependency.
"""

from enum import StrEnum
from typing import ClassVar

from edgecache.types import CacheInfo


class EdgeCacheError(Exception):
    """Base of everything this program raises on purpose."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.default_code
        self.retry_after = retry_after
        self.cache: CacheInfo | None = None
        """How the cache handled the request that failed, where it got so far; for the response's headers."""


class ConfigError(EdgeCacheError):
    """The configuration is unusable; the message names file, line and key."""


class ClientError(EdgeCacheError):
    """The request is at fault."""

    status = 400
    type = "invalid_request_error"


class BadRequest(ClientError):
    """Malformed or invalid body, header or parameter."""


class Unauthorized(ClientError):
    """No credential, or one that is not known."""

    status = 401
    type = "authentication_error"
    default_code = "invalid_api_key"


class Forbidden(ClientError):
    """A known credential that may not do this."""

    status = 403
    type = "permission_error"


class UnknownUrl(ClientError):
    """No such endpoint."""

    status = 404
    default_code = "unknown_url"


class MethodNotAllowed(ClientError):
    """The endpoint exists, with other methods."""

    status = 405
    default_code = "method_not_allowed"


class ModelNotFound(ClientError):
    """No configured upstream serves the model."""

    status = 404
    default_code = "model_not_found"


class NotFound(ClientError):
    """A named thing (entry, response) does not exist."""

    status = 404
    default_code = "not_found"


class RequestTimeout(ClientError):
    """The client was too slow to send its request."""

    status = 408
    default_code = "request_timeout"


class TooLarge(ClientError):
    """The body is over the limit."""

    status = 413
    default_code = "request_too_large"


class UnsupportedMedia(ClientError):
    """The body is not JSON, or its encoding is not supported."""

    status = 415
    default_code = "unsupported_media_type"


class RateLimited(ClientError):
    """A rate or a budget of the key or the tenant is used up; `code` is `insufficient_quota` for a budget."""

    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"


class ResidencyRefused(ClientError):
    """No upstream stands where the tenant's prompts may be processed. Never made good by one that stands elsewhere."""

    status = 451
    type = "permission_error"
    default_code = "residency"


class HeadersTooLarge(ClientError):
    """The header section is over the limit."""

    status = 431
    default_code = "headers_too_large"


class ServerError(EdgeCacheError):
    """This POP is at fault or too busy."""


class Overloaded(ServerError):
    """A limit on concurrent work is reached, or the POP is draining.

    Where the broker refuses, `code` says why: `queue_full`, `shed`, `predicted_miss`, `due_time_passed`.
    """

    status = 503
    default_code = "overloaded"


class NotCached(ServerError):
    """`only-if-cached` was asked for and no stored answer fits (RFC 9111, section 5.2.1.7)."""

    status = 504
    type = "invalid_request_error"
    default_code = "not_cached"


class FunctionRefused(ClientError):
    """An uploaded function that cannot be taken. `code` is the rule that it breaks."""

    status = 422
    default_code = "function_refused"


class Fault(StrEnum):
    """How a call of a function can fail; the `outcome` label of its metrics."""

    TRAP = "trap"
    """The code did what WebAssembly forbids (unreachable, out of bounds, division by zero), or threw."""
    CPU = "cpu"
    """More time in the sandbox than it may take."""
    WALL = "wall"
    """More time in all, host calls included."""
    MEMORY = "memory"
    """More memory, tables or instances than it may have."""
    STACK = "stack"
    """Calls nested too deep."""
    BUDGET = "budget"
    """More host calls, or bytes through them, than it may make."""
    ANSWER = "answer"
    """No answer, two, or one that is not HTTP."""
    SIZE = "size"
    """An answer that is larger than it may be."""
    LOAD = "load"
    """Its code could not be loaded."""
    POOL = "pool"
    """Too many calls at once for this POP."""
    CRASH = "crash"
    """Its process ended."""


class FunctionFault(EdgeCacheError):
    """A call of a function that did not end well. The message names the limit that was hit, and by how much."""

    status = 502
    default_code = "function_failed"

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message, code=f"function_{fault.value}")
        self.fault = fault


class UpstreamError(EdgeCacheError):
    """The cluster behind this POP is at fault."""

    status = 502
    type = "server_error"
    default_code = "upstream_error"


class UpstreamUnreachable(UpstreamError):
    """No connection, or it ended before the first response byte."""


class UpstreamTimeout(UpstreamError):
    """The response head or the next byte took too long."""

    status = 504
    default_code = "upstream_timeout"


class UpstreamDied(UpstreamError):
    """The answer broke off after its first byte: the client gets an error event and an aborted transport.

    `reported` is True when the upstream's own error event has already been passed on.
    """

    def __init__(self, message: str, *, reported: bool = False) -> None:
        super().__init__(message)
        self.reported = reported


class NoUpstream(UpstreamError):
    """No upstream is configured or usable for this request."""

    status = 503
    default_code = "no_upstream"


class CacheSideError(EdgeCacheError):
    """Something on the cache side failed; the request goes on as a miss."""


class EmbedError(CacheSideError):
    """The embedder is gone or refused the text."""


class EmbedTimeout(EmbedError):
    """No vector within the deadline, or the queue is full."""


class TextTooLong(EmbedError):
    """The text is longer than the embedder's window: it may hit exactly, never on a prefix."""


class StoreError(CacheSideError):
    """The store could not read or write."""


class StoreFull(StoreError):
    """The map or the disk is full; the answer is not stored."""


class StoreCorrupt(StoreError):
    """A record failed its checksum or has an unknown schema version."""


class StoreReadOnly(StoreError):
    """The store was opened read-only."""
