import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.clock import ManualClock
from edgecache.errors import BadRequest, StoreError
from edgecache.functions.secrets import MAX_SECRETS, MAX_VALUE, SecretInfo, Secrets, SecretsLocked, _Opened
from edgecache.store.functions import FunctionStore, Table

OWNER = ("acme", "f")


class Home:
    """Secrets in a folder, that can be opened again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = folder / "keys" / "secrets.key"
        self.clock = ManualClock()
        self.open()

    def open(self) -> Secrets:
        self.store = FunctionStore(self.folder / "state", sync=False)
        self.secrets = Secrets(self.store, self.key, clock=self.clock)
        return self.secrets

    def reopen(self) -> Secrets:
        self.store.close()
        return self.open()


@pytest.fixture
def home(tmp_path: Path):
    made = Home(tmp_path)
    yield made
    made.store.close()


def rows(home: Home) -> list[tuple[bytes, Any]]:
    return home.store.read(lambda txn: list(txn.items(Table.SECRETS)))


async def test_a_secret_is_revealed_to_its_function_alone(home: Home) -> None:
    secrets = home.secrets
    await secrets.put(*OWNER, {"TOKEN": "s3cret", "OTHER": "zwölf"})
    assert secrets.reveal(*OWNER, "TOKEN") == "s3cret"
    assert secrets.reveal(*OWNER, "OTHER") == "zwölf"
    assert secrets.reveal(*OWNER, "token") is None
    assert secrets.reveal("acme", "g", "TOKEN") is None
    assert secrets.reveal("other", "f", "TOKEN") is None
    assert home.reopen().reveal(*OWNER, "TOKEN") == "s3cret"


async def test_only_names_and_times_come_back_out(home: Home) -> None:
    assert home.secrets.list(*OWNER) == []
    await home.secrets.put(*OWNER, {"B": "one1"})
    home.clock.advance(5)
    await home.secrets.put(*OWNER, {"A": "two2"})
    now = home.clock.now()
    assert home.secrets.list(*OWNER) == [SecretInfo("A", now), SecretInfo("B", now - 5)]


async def test_nothing_of_a_value_is_on_disk(home: Home) -> None:
    await home.secrets.put(*OWNER, {"TOKEN": "s3cret-in-the-clear"})
    home.store.close()
    data = (home.folder / "state" / "data.mdb").read_bytes()
    assert b"TOKEN" in data
    assert b"s3cret" not in data


async def test_a_secret_is_replaced_and_deleted_and_that_holds_at_once(home: Home) -> None:
    secrets = home.secrets
    await secrets.put(*OWNER, {"TOKEN": "first"})
    assert secrets.reveal(*OWNER, "TOKEN") == "first"
    await secrets.put(*OWNER, {"TOKEN": "second"})
    assert secrets.reveal(*OWNER, "TOKEN") == "second"
    assert secrets.redact(*OWNER, "first second") == "first [secret TOKEN]"
    assert await secrets.delete(*OWNER, "TOKEN")
    assert not await secrets.delete(*OWNER, "TOKEN")
    assert secrets.reveal(*OWNER, "TOKEN") is None
    assert secrets.redact(*OWNER, "second") == "second"


async def test_the_secrets_of_a_function_go_together(home: Home) -> None:
    await home.secrets.put(*OWNER, {"A": "1111", "B": "2222"})
    await home.secrets.put("acme", "g", {"A": "3333"})
    assert home.secrets.reveal(*OWNER, "A") == "1111"
    await home.secrets.drop(*OWNER)
    assert home.secrets.reveal(*OWNER, "A") is None
    assert home.secrets.list(*OWNER) == []
    assert home.secrets.reveal("acme", "g", "A") == "3333"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"good": "x", "bad name": "x"}, "'bad name' is not the name of a secret"),
        ({"good": "x", "": "x"}, "is not the name of a secret"),
        ({"good": "x", "1a": "x"}, "is not the name of a secret"),
        ({"good": "x", "a\n": "x"}, "is not the name of a secret"),
        ({"good": "x", "a" * 65: "x"}, "64 characters at most"),
        ({"good": "x", "empty": ""}, "the secret empty is empty"),
        ({"good": "x", "big": "x" * (MAX_VALUE + 1)}, "has 16385 bytes, of at most 16384: 1 too many"),
        ({"good": "x", "odd": "\ud800"}, "not valid Unicode"),
        (
            {f"s{number}": "x" for number in range(MAX_SECRETS + 2)},
            "at most 64 secrets; this would make 66, 2 too many",
        ),
    ],
)
async def test_what_cannot_be_kept_is_refused_and_nothing_of_it_is(home: Home, values, text: str) -> None:
    with pytest.raises(BadRequest, match=text):
        await home.secrets.put(*OWNER, values)
    assert home.secrets.list(*OWNER) == []


async def test_the_number_counts_what_is_there(home: Home) -> None:
    await home.secrets.put(*OWNER, {f"s{number}": "x" for number in range(MAX_SECRETS)})
    await home.secrets.put(*OWNER, {"s0": "y"})
    with pytest.raises(BadRequest, match="1 too many"):
        await home.secrets.put(*OWNER, {"more": "x"})
    await home.secrets.put("acme", "g", {"more": "x"})
    await home.secrets.put(*OWNER, {})


# ---------------------------------------------------------------------------------------------- the key


async def test_the_key_is_made_with_the_first_secret_and_is_its_owners_alone(home: Home) -> None:
    assert not home.key.exists()
    assert home.secrets.reveal(*OWNER, "TOKEN") is None
    assert not home.key.exists()
    await home.secrets.put(*OWNER, {"TOKEN": "s3cret"})
    assert home.key.stat().st_mode & 0o777 == 0o600
    assert len(home.key.read_bytes()) == 32


async def test_a_lost_key_is_said_and_not_made_anew(home: Home) -> None:
    await home.secrets.put(*OWNER, {"TOKEN": "s3cret"})
    lost = home.key.read_bytes()
    home.key.unlink()
    secrets = home.reopen()
    with pytest.raises(SecretsLocked, match="the key of 1 secrets, is gone: restore it, or delete them all"):
        secrets.reveal(*OWNER, "TOKEN")
    with pytest.raises(SecretsLocked):
        await secrets.put(*OWNER, {"OTHER": "x"})
    assert not home.key.exists()
    assert [info.name for info in secrets.list(*OWNER)] == ["TOKEN"]
    assert secrets.redact(*OWNER, "goes on") == "goes on"
    assert secrets.reveal("acme", "g", "TOKEN") is None  # others have none to lose
    home.key.write_bytes(lost)
    home.key.chmod(0o600)
    assert secrets.reveal(*OWNER, "TOKEN") == "s3cret"


async def test_another_key_is_said_and_after_deleting_all_a_new_one_may_begin(home: Home) -> None:
    await home.secrets.put(*OWNER, {"TOKEN": "s3cret"})
    home.key.write_bytes(os.urandom(32))
    secrets = home.reopen()
    with pytest.raises(SecretsLocked, match="is not the key that 1 secrets were written with"):
        secrets.reveal(*OWNER, "TOKEN")
    assert await secrets.delete(*OWNER, "TOKEN")
    await secrets.put(*OWNER, {"TOKEN": "anew"})
    assert secrets.reveal(*OWNER, "TOKEN") == "anew"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
async def test_a_key_that_others_can_read_is_refused(home: Home, mode: int) -> None:
    await home.secrets.put(*OWNER, {"TOKEN": "s3cret"})
    home.key.chmod(mode)
    with pytest.raises(SecretsLocked, match="others than its owner may read it"):
        home.reopen().reveal(*OWNER, "TOKEN")


async def test_a_key_behind_a_link_or_of_another_length_is_refused(home: Home) -> None:
    home.key.parent.mkdir()
    target = home.folder / "elsewhere"
    target.write_bytes(bytes(32))
    target.chmod(0o600)
    home.key.symlink_to(target)
    with pytest.raises(SecretsLocked, match="secrets cannot be read"):
        await home.secrets.put(*OWNER, {"TOKEN": "s3cret"})
    home.key.unlink()
    home.key.write_bytes(bytes(31))
    home.key.chmod(0o600)
    with pytest.raises(SecretsLocked, match="32 bytes, not 31"):
        await home.secrets.put(*OWNER, {"TOKEN": "s3cret"})


async def test_a_row_that_was_exchanged_or_altered_is_not_read(home: Home) -> None:
    await home.secrets.put(*OWNER, {"A": "of f"})
    await home.secrets.put("acme", "g", {"A": "of g"})
    await home.secrets.put(*OWNER, {"B": "of f"})
    by_owner = sorted(rows(home))

    def exchange(txn: Any) -> None:
        one, other = by_owner[0], by_owner[-1]
        txn.put(Table.SECRETS, one[0], other[1])
        txn.put(Table.SECRETS, other[0], one[1])

    home.store.write(exchange)
    secrets = home.reopen()
    for owner in (OWNER, ("acme", "g")):
        with pytest.raises(SecretsLocked, match="was altered on disk: put it anew"):
            secrets.reveal(*owner, "A")


async def test_a_store_that_fails_is_an_error_and_redacting_goes_on(home: Home) -> None:
    home.store.close()
    with pytest.raises(StoreError):
        home.secrets.reveal(*OWNER, "A")
    with pytest.raises(StoreError):
        await home.secrets.put(*OWNER, {"A": "x"})
    assert home.secrets.redact(*OWNER, "text") == "text"


class Overtaken(Secrets):
    """Another thread puts a value while one is being read."""

    put_meanwhile = False

    def _decrypted(self, tenant: str, function: str, rows: Any) -> dict[str, str]:
        values = super()._decrypted(tenant, function, rows)
        if not self.put_meanwhile:
            self.put_meanwhile = True
            self._put(tenant, function, {"N": "new value"})
        return values


async def test_what_was_overtaken_while_it_was_read_is_not_remembered(home: Home) -> None:
    await home.secrets.put(*OWNER, {"N": "old value"})
    secrets = Overtaken(home.store, home.key, clock=home.clock)
    assert secrets.reveal(*OWNER, "N") == "old value"
    assert secrets.reveal(*OWNER, "N") == "new value"


# ---------------------------------------------------------------------------------------------- blotting out


def test_every_value_is_blotted_out_the_longest_first() -> None:
    opened = _Opened({"SHORT": "abcd", "LONG": "abcdefgh", "REGEX": ".*+(", "TINY": "xyz"})
    assert opened.redact("abcdefgh, abcd, .*+(, xyz, abc") == (
        "[secret LONG], [secret SHORT], [secret REGEX], xyz, abc"
    )
    assert opened.redact("abcdabcd") == "[secret SHORT][secret SHORT]"
    assert _Opened({}).redact("abcd") == "abcd"


def test_each_line_of_a_value_is_blotted_out() -> None:
    pem = "-----BEGIN KEY-----\nMC4CAQAwBQYDK2Vw\nshort\n-----END KEY-----\n"
    opened = _Opened({"PEM": pem})
    assert opened.redact(f"key: {pem}") == "key: [secret PEM]"
    assert opened.redact("line 2: MC4CAQAwBQYDK2Vw, short") == "line 2: [secret PEM], short"


@given(
    st.dictionaries(st.sampled_from("ABCD"), st.text("ab1.*", min_size=4, max_size=9), min_size=1),
    st.lists(st.text("ab1.*-", max_size=12)),
)
def test_no_value_is_left_in_any_text(values: dict[str, str], parts: list[str]) -> None:
    left = _Opened(values).redact("".join(parts) + "".join(values.values()))
    outside = left
    for name in values:
        outside = outside.replace(f"[secret {name}]", "\n")
    assert not any(value in outside for value in values.values())


@pytest.mark.slow
async def test_a_thread_that_reads_while_others_write_sees_a_value_that_was_put(home: Home) -> None:
    secrets, stop, seen = home.secrets, threading.Event(), set()
    await secrets.put(*OWNER, {"N": "value 0"})

    def read() -> None:
        while not stop.is_set():
            seen.add(secrets.reveal(*OWNER, "N"))

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(1, 10):
        await secrets.put(*OWNER, {"N": f"value {number}"})
        assert secrets.reveal(*OWNER, "N") == f"value {number}"
    stop.set()
    thread.join()
    assert seen <= {f"value {number}" for number in range(10)}
