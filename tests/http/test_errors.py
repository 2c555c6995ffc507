import asyncio

import orjson
import pytest
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from edgecache.errors import BadRequest, EdgeCacheError, NotFound, Overloaded, Unauthorized
from edgecache.http import errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LineTooLong(b"GET /secret", 10), 431),
        (BadHttpMessage("Too many headers received"), 431),
        (BadHttpMessage("Invalid header value char:\n\n  b'X: secret'\n   ^"), 400),
        (BadRequest("ours"), 400),
        (ValueError("secret"), 500),
        (None, 500),
    ],
)
def test_an_error_of_the_parser_becomes_one_of_ours_and_echoes_nothing(error: Exception | None, status: int) -> None:
    found = errors.of_protocol(error)
    assert found.status == status
    assert "secret" not in found.message


def test_retry_advice_is_in_whole_seconds_and_in_milliseconds() -> None:
    assert errors.headers(Overloaded("x", retry_after=1.2)) == {"retry-after": "2", "retry-after-ms": "1200"}
    assert errors.headers(Unauthorized("x")) == {"www-authenticate": "Bearer"}
    assert errors.headers(EdgeCacheError("x")) == {}


def test_a_problem_is_rfc_9457() -> None:
    problem = orjson.loads(errors.problem(NotFound("no entry 5")))
    assert problem == {
        "type": "about:blank",
        "title": "invalid_request_error",
        "status": 404,
        "detail": "no entry 5",
        "code": "not_found",
    }


def test_foreign_text_is_made_printable_and_short() -> None:
    assert errors.printable("/v1/\udcff\n\x1b" + "x" * 500, 10) == "/v1/\\udcff\\n\\x1bxxx"


async def test_whatever_ends_the_work_is_caught_but_not_its_cancellation() -> None:
    async def give(result: object) -> object:
        if isinstance(result, BaseException):
            raise result
        return result

    broken = ValueError("broken")
    assert await errors.caught(give(1)) == 1
    assert await errors.caught(give(broken)) is broken
    with pytest.raises(asyncio.CancelledError):
        await errors.caught(give(asyncio.CancelledError()))
