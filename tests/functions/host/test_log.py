from edgecache.functions.manifest import Allow
from edgecache.wasm.hostcalls import Code


def records(bench, event: str = "log"):
    return [record for record in bench.journal.records("acme", "f") if record.event == event]


def test_lines_reach_the_journal(bench, ask) -> None:
    host = bench.host()
    for level in ("trace", "debug", "info", "warn", "error"):
        assert ask(host, "log", level, f"a {level} line") == []
    kept = records(bench)
    assert [record.level for record in kept] == ["trace", "debug", "info", "warn", "error"]
    assert (kept[2].text, kept[2].version, kept[2].phase, kept[2].request_id) == ("a info line", 3, "hit", "req-1")


def test_only_levels_that_there_are(bench, refusal) -> None:
    for level in ("INFO", "", "fatal", b"\xff"):
        code, message = refusal(bench.host(), "log", level, "x")
        assert code is Code.INVALID
        assert "one of trace, debug, info, warn, error" in message
    assert records(bench) == []


def test_what_is_no_text_is_kept_as_far_as_it_is(bench, ask) -> None:
    ask(bench.host(), "log", "info", b"a\xff\x1b[2Jb\r\n")
    (line,) = records(bench)
    assert "\x1b" not in line.text
    assert line.text.startswith("a\ufffd")


def test_a_flood_is_dropped_and_counted_and_said_once(bench, ask) -> None:
    host = bench.host(log_bytes=100, host_calls=1000)
    for _ in range(500):
        ask(host, "log", "info", "x" * 30)
    assert [record.text for record in records(bench)] == [
        *["x" * 30] * 3,
        "log lines beyond 100 bytes a call are dropped (log_bytes)",
    ]
    assert host.budget.dropped == 497


async def test_secrets_do_not_reach_the_journal(bench, ask, refusal) -> None:
    await bench.secrets.put("acme", "f", {"token": "hunter2hunter2"})
    host = bench.host(Allow(secrets=("token",)))
    (value,) = ask(host, "var.get", "token")
    ask(host, "log", "info", b"token is " + value)
    refusal(host, "kv.open", value)
    texts = [record.text for record in bench.journal.records("acme", "f")]
    assert len(texts) == 3
    assert not any("hunter2" in text for text in texts)
