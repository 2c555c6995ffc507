import pytest

from edgecache.functions.host.calling import text
from edgecache.functions.manifest import Allow
from edgecache.wasm.hostcalls import Code, HostRefused


def test_text_is_utf_8() -> None:
    assert text("h\u00e9".encode()) == "h\u00e9"
    with pytest.raises(HostRefused, match="not UTF-8, at byte 1") as caught:
        text(b"a\xff")
    assert caught.value.code is Code.INVALID


def test_an_audit_says_what_and_how_it_ended_and_no_value(bench, ask, refusal) -> None:
    host = bench.host(Allow(kv=("carts",)))
    ask(host, "kv.set", "carts", "card", "4111 1111")
    refusal(host, "kv.set", "other", "card", "4111 1111")
    kept = bench.journal.records("acme", "f")
    assert [(record.event, record.level, record.text) for record in kept] == [
        ("audit", "info", "kv.set carts: ok"),
        ("audit", "warn", "kv.set other: denied"),
    ]
    assert kept[0].data == {"op": "kv.set", "result": "ok"}
    assert (kept[0].version, kept[0].phase, kept[0].request_id) == (3, "hit", "req-1")


def test_a_subject_is_cut(bench, refusal) -> None:
    refusal(bench.host(), "kv.open", "x" * 100_000)
    (record,) = bench.journal.records("acme", "f")
    assert len(record.text) < 300


async def test_no_half_of_a_secret_is_left(bench, refusal) -> None:
    await bench.secrets.put("acme", "f", {"token": "hunter2hunter2"})
    refusal(bench.host(), "kv.open", "x" * 192 + "hunter2hunter2")
    (record,) = bench.journal.records("acme", "f")
    assert "hunter2" not in record.text
