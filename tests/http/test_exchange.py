import pytest

from edgecache.clock import SystemClock
from edgecache.config import Config
from edgecache.http.exchange import Books, Exchange
from edgecache.http.services import Services
from edgecache.telemetry.trace import Trace
from tests.http.conftest import Lines, miss, services


def exchange(model: str, *, status: int = 200, seconds: float = 0.003) -> Exchange:
    made = Exchange("req_1", Trace(SystemClock()), "chat.completions")
    made.model, made.status, made.reply, made.ttft = model, status, miss(b"{}"), seconds
    made.trace.add("parse", 0.00002)
    return made


@pytest.fixture
def parts() -> tuple[Services, Books, Lines]:
    made, lines = services(Config()), Lines()
    made.access = lines
    return made, Books(made), lines


def sample(made: Services, name: str, **labels: str) -> float | None:
    return made.metrics.registry.get_sample_value(name, labels)


async def test_a_batch_is_booked_as_one_by_one_would_be(parts) -> None:
    made, books, lines = parts
    for seconds in (0.0001, 0.0007, 0.0015, 500.0):
        books.close(exchange("m", seconds=seconds))
    books.flush()
    assert len(lines.lines) == 4
    labels = {"endpoint": "chat.completions", "cache": "NONE"}
    assert sample(made, "edgecache_ttft_seconds_count", **labels) == 4
    assert sample(made, "edgecache_ttft_seconds_sum", **labels) == pytest.approx(500.0023)
    for bound, count in (("0.0005", 1), ("0.001", 2), ("0.002", 3), ("120.0", 3), ("+Inf", 4)):
        assert sample(made, "edgecache_ttft_seconds_bucket", le=bound, **labels) == count


async def test_a_full_batch_is_booked_without_waiting(parts) -> None:
    _, books, lines = parts
    for _ in range(64):
        books.close(exchange("m"))
    assert len(lines.lines) == 64


async def test_made_up_model_names_do_not_become_labels(parts) -> None:
    made, books, _ = parts
    for number in range(500):
        books.close(exchange(f"m{number}"))
        books.close(exchange(f"refused{number}", status=404))
    books.flush()
    models = {
        one.labels["model"]
        for family in made.metrics.registry.collect()
        if family.name == "edgecache_requests"
        for one in family.samples
    }
    assert len(models) <= 202
    assert "other" in models
    assert not any(name.startswith("refused") for name in models)
