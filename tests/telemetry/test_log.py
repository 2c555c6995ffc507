import io
import json
import logging
import threading

import pytest

from edgecache.telemetry import log
from edgecache.telemetry.metrics import Metrics


@pytest.fixture(autouse=True)
def restored_logger():
    logger = logging.getLogger("edgecache")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def test_a_log_line_is_one_json_object_whatever_it_says() -> None:
    stream = io.StringIO()
    log.setup("info", stream)
    logging.getLogger("edgecache.test").warning("two\nlines and \x1b[31m colour")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["message"] == "two\nlines and \x1b[31m colour"
    assert "\x1b" not in line


def test_lines_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    log.setup("warning", stream)
    logging.getLogger("edgecache.test").info("quiet")
    assert stream.getvalue() == ""


def test_an_exception_is_logged_with_its_traceback() -> None:
    stream = io.StringIO()
    log.setup("info", stream)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("edgecache.test").exception("it failed")
    assert "ValueError: broken" in json.loads(stream.getvalue())["error"]


def test_the_access_log_writes_every_line_before_it_closes() -> None:
    stream = io.StringIO()
    access = log.AccessLog(stream, Metrics())
    for number in range(3):
        access.write({"request_id": str(number)})
    access.close()
    assert [json.loads(line)["request_id"] for line in stream.getvalue().splitlines()] == ["0", "1", "2"]


class BlockedStream(io.StringIO):
    """A reader that takes nothing until told to."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        self.go.wait(10)
        return super().write(text)


def test_lines_are_dropped_and_counted_when_the_reader_lags() -> None:
    stream, metrics = BlockedStream(), Metrics()
    access = log.AccessLog(stream, metrics, capacity=2, interval=0.001)
    access.write({"n": 0})
    assert stream.entered.wait(10)
    for number in range(1, 5):
        access.write({"n": number})
    stream.go.set()
    access.close()
    assert len(stream.getvalue().splitlines()) == 3
    assert b"edgecache_log_lines_dropped_total 2.0" in metrics.render()
