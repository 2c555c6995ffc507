import threading

import pytest

from edgecache.functions.manifest import Allow
from edgecache.wasm.hostcalls import Code

CARTS = Allow(kv=("carts", "other"))


def test_values_come_and_go(bench, ask) -> None:
    host = bench.host(CARTS)
    assert ask(host, "kv.open", "carts") == []
    assert ask(host, "kv.get", "carts", "k") == []
    assert ask(host, "kv.set", "carts", "k", b"\x00\xff,") == []
    assert ask(host, "kv.get", "carts", "k") == [b"\x00\xff,"]
    assert ask(host, "kv.exists", "carts", "k") == [b"1"]
    assert ask(host, "kv.keys", "carts") == [b"k"]
    assert ask(host, "kv.keys", "carts", "x") == []
    assert ask(host, "kv.delete", "carts", "k") == []
    assert ask(host, "kv.delete", "carts", "k") == []
    assert ask(host, "kv.exists", "carts", "k") == [b"0"]


def test_numbers_are_counted_up_and_down(bench, ask, refusal) -> None:
    host = bench.host(CARTS)
    assert ask(host, "kv.increment", "carts", "n", "5") == [b"5"]
    assert ask(host, "kv.increment", "carts", "n", "-7") == [b"-2"]
    assert ask(host, "kv.increment", "carts", "n", "+1") == [b"-1"]
    for delta in ("", "1.5", "x", "1_000", " 1", "9" * 21, "--1"):
        assert refusal(host, "kv.increment", "carts", "n", delta)[0] is Code.INVALID
    ask(host, "kv.set", "carts", "text", "abc")
    assert refusal(host, "kv.increment", "carts", "text", "1")[0] is Code.INVALID


def test_values_are_swapped_if_they_are_what_is_expected(bench, ask, refusal) -> None:
    host = bench.host(CARTS)
    assert ask(host, "kv.swap", "carts", "k", "=", "", "new") == [b"0"]
    assert ask(host, "kv.swap", "carts", "k", "-", "", "new") == [b"1"]
    assert ask(host, "kv.swap", "carts", "k", "-", "", "newer") == [b"0"]
    assert ask(host, "kv.swap", "carts", "k", "=", "new", "newer", "60") == [b"1"]
    assert refusal(host, "kv.swap", "carts", "k", "?", "", "x") == (
        Code.INVALID,
        "kv.swap expects `=` and a value, or `-`",
    )


@pytest.mark.parametrize("ttl", ["0", "-1", "nan", "inf", "soon", "1e999"])
def test_times_to_live_are_times(bench, ask, refusal, ttl: str) -> None:
    host = bench.host(CARTS)
    assert refusal(host, "kv.set", "carts", "k", "v", ttl)[0] is Code.INVALID
    assert ask(host, "kv.set", "carts", "k", "v", "0.5") == []
    assert ask(host, "kv.set", "carts", "k", "v", "") == []


@pytest.mark.parametrize(
    ("op", "rest"),
    [
        ("kv.open", ()),
        ("kv.get", ("k",)),
        ("kv.set", ("k", "v")),
        ("kv.delete", ("k",)),
        ("kv.exists", ("k",)),
        ("kv.keys", ()),
        ("kv.increment", ("k", "1")),
        ("kv.swap", ("k", "-", "", "v")),
    ],
)
def test_stores_that_are_not_granted_are_out_of_reach(bench, refusal, op: str, rest) -> None:
    host = bench.host(CARTS)
    for store in ("secret", "../carts", "", "carts\x00"):
        code, message = refusal(host, op, store, *rest)
        assert code is Code.DENIED
        assert "under [allow] in function.toml" in message
    assert refusal(host, op, b"\xff", *rest)[0] is Code.INVALID


def test_functions_and_tenants_share_nothing(bench, ask) -> None:
    ask(bench.host(CARTS), "kv.set", "carts", "k", "mine")
    for other in (bench.host(CARTS, name="g"), bench.host(CARTS, tenant="evil")):
        assert ask(other, "kv.get", "carts", "k") == []
        assert ask(other, "kv.keys", "carts") == []
    assert ask(bench.host(CARTS), "kv.get", "other", "k") == []
    assert ask(bench.host(CARTS), "kv.get", "carts", "k") == [b"mine"]


def test_quotas_hold_against_a_flood(bench, ask, refusal) -> None:
    host = bench.host(CARTS, host_calls=1000)
    for number in range(10):
        ask(host, "kv.set", "carts", f"k{number}", "v")
    code, message = refusal(host, "kv.set", "carts", "k10", "v")
    assert code is Code.QUOTA
    assert "at most 10 keys" in message
    code, message = refusal(host, "kv.set", "carts", "k1", "v" * 20_000)
    assert code is Code.QUOTA
    assert "at most 10000 bytes" in message


def test_a_closed_store_is_unavailable(bench, refusal) -> None:
    host = bench.host(CARTS)
    bench.state.close()
    assert refusal(host, "kv.get", "carts", "k")[0] is Code.UNAVAILABLE


def test_many_calls_at_once_count_right(bench, ask) -> None:
    def work() -> None:
        host = bench.host(CARTS)
        for _ in range(25):
            ask(host, "kv.increment", "carts", "n", "1")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ask(bench.host(CARTS), "kv.get", "carts", "n") == [b"200"]
