"""The rest of WASI through the adapter: printing, clocks, randomness, exit, and what is refused."""

import struct

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from edgecache.errors import Fault, FunctionFault
from tests.adapter.conftest import LIMITS, NOW, SEED, Host, request, told


def run(guest, path, host=None, **more):
    return guest.run(request(path, **more), LIMITS, host or Host())


def test_what_is_printed_goes_to_the_log_line_by_line(guest):
    host = Host()
    run(guest, "/print", host)
    assert host.all("log") == [
        [b"info", b"one line\nand two"],
        [b"error", b"bad"],
        [b"info", b"rest"],
        [b"error", b"worse"],
    ]


def test_a_line_without_end_goes_in_blocks(guest):
    host = Host()
    run(guest, "/print-long", host)
    assert [len(text) for _, text in host.all("log")] == [4096, 4096, 9000 - 2 * 4096]


def test_lines_before_a_trap_were_sent(guest):
    host = Host()
    with pytest.raises(FunctionFault) as failed:
        run(guest, "/trap", host)
    assert failed.value.fault == Fault.TRAP
    assert host.all("log")[0] == [b"info", b"one line\nand two"]


@pytest.mark.parametrize(
    ("path", "last"),
    [("/exit", b"the function called exit"), ("/exit-badly", b"the function called exit, with an error")],
)
def test_an_exit_ends_the_call_and_the_log_says_so(guest, path, last):
    host = Host()
    with pytest.raises(FunctionFault) as failed:
        run(guest, path, host)
    assert failed.value.fault == Fault.TRAP
    assert host.all("log")[-1] == [b"error", last]


def test_there_is_no_environment(guest):
    said = told(run(guest, "/print"))
    assert said == {
        "budget": str(1 << 20),
        "terminal": "0",
        "stdin": "1",  # closed
        "environment": "0",
        "arguments": "0",
        "cwd": "0",
    }


def test_clocks_stand_still_and_sleeping_takes_no_time(guest):
    said = told(run(guest, "/clocks"))
    assert said == {
        "first": str(NOW + 1000),
        "step": "1000",
        "seconds": str(NOW // 10**9),
        "nanoseconds": str(NOW % 10**9),
        "ready": "0",
        "woken": "1",
        "which": "1",  # the shorter of the two
        "ready-now": "1",
        "slept": "1",
        "slept-more": "3",
        "seconds-then": str(NOW // 10**9),
        "zone": "UTC",
    }


def test_randomness_is_chacha20_keyed_by_the_seed(guest):
    cipher = Cipher(algorithms.ChaCha20(SEED, bytes(16)), mode=None).encryptor()
    body = run(guest, "/random").body
    assert body == cipher.update(bytes(len(body)))
    assert len(body) == 100 + 4 * struct.calcsize("Q")


def test_the_same_seed_gives_the_same_call_and_another_does_not(guest):
    assert run(guest, "/random").body == run(guest, "/random").body
    assert run(guest, "/random").body != run(guest, "/random", seed=bytes(32)).body


@pytest.mark.slow
def test_answers_that_are_not_kept_do_not_pile_up(guest):
    assert told(run(guest, "/grow"))["total"] == str(64 << 20)  # in a sandbox of 48 MiB


def test_files_sockets_and_databases_say_no(guest):
    message = "not available on this POP: use key-value, or outgoing HTTP"
    answered = run(guest, "/refusals").body.decode().splitlines()
    assert answered == [
        "directories 0",
        "tcp 1",  # access-denied
        "udp 1",
        "resolve 1",
        "sqlite 1",
        "sqlite3 1",
        *[f"error 0 {message}"] * 4,  # connection-failed: postgres 2, 3, 4 and mysql
        f"error 3 {message}",  # redis: other
        f"error 2 {message}",  # mqtt: connection-failed
    ]
