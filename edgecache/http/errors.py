"""Errors as HTTP: any exception as one of our tree, and our tree as OpenAI envelope or RFC 9457 problem."""

import logging
import math
from collections.abc import Awaitable
from typing import TypeVar

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from edgecache.errors import BadRequest, EdgeCacheError, HeadersTooLarge, MethodNotAllowed, Unauthorized, UnknownUrl

log = logging.getLogger(__name__)

T = TypeVar("T")
PROBLEM = "application/problem+json"


def printable(text: str, limit: int = 200) -> str:
    """`text` in printable ASCII and short: request targets may hold bytes that are not even UTF-8."""
    return text[:limit].encode("unicode_escape").decode()


def of_request(error: Exception, request: web.BaseRequest) -> EdgeCacheError:
    """`error`, raised while answering `request`, as one of ours; what is not foreseen is logged and a plain 500."""
    if isinstance(error, EdgeCacheError):
        return error
    target = f"{request.method} {printable(request.path)}"
    if isinstance(error, web.HTTPNotFound):
        return UnknownUrl(f"Unknown request URL: {target}. See docs/http-api.md for what is served here.")
    if isinstance(error, web.HTTPMethodNotAllowed):
        return MethodNotAllowed(f"Method not allowed: {target}. Allowed: {allow(error)}.")
    if isinstance(error, web.HTTPException):
        return BadRequest(printable(error.reason))
    log.error("unforeseen error while answering %s", target, exc_info=error)
    return EdgeCacheError("The server had an error while processing your request.")


def of_protocol(error: BaseException | None) -> EdgeCacheError:
    """What aiohttp's parser found wrong, as one of ours. Nothing of the request is echoed."""
    if isinstance(error, EdgeCacheError):
        return error
    if isinstance(error, LineTooLong) or (
        isinstance(error, HttpProcessingError) and "oo many headers" in error.message
    ):
        return HeadersTooLarge("The request line or header section is too large.")
    if isinstance(error, HttpProcessingError):
        return BadRequest(
            "The request is not valid HTTP/1.1: " + printable(error.message.split("\n")[0].strip(":"), 80)
        )
    return EdgeCacheError("The server had an error while processing your request.")


async def caught(work: Awaitable[T]) -> T | Exception:
    """What `work` gives, or the exception it ended with: the one place where everything is caught on its way out."""
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
        return error


def allow(error: web.HTTPMethodNotAllowed) -> str:
    """The value of `Allow` (RFC 9110, section 10.2.1)."""
    return ", ".join(sorted(error.allowed_methods))


def headers(error: EdgeCacheError) -> dict[str, str]:
    """Response headers that belong to `error`: when to retry, in the forms of RFC 9110 and of the OpenAI SDKs."""
    if error.retry_after is not None:
        return {
            "retry-after": str(max(1, math.ceil(error.retry_after))),
            "retry-after-ms": str(math.ceil(error.retry_after * 1000)),
        }
    if isinstance(error, Unauthorized):
        return {"www-authenticate": "Bearer"}
    return {}


def problem(error: EdgeCacheError) -> bytes:
    """The body of an admin error: RFC 9457, with our code as `code`."""
    return orjson.dumps(
        {
            "type": "about:blank",
            "title": error.type,
            "status": error.status,
            "detail": error.message,
            "code": error.code,
        }
    )
