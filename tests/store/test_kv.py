import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edgecache.clock import ManualClock, SystemClock
from edgecache.errors import StoreCorrupt
from edgecache.store.functions import FunctionStore, Table, owner_key
from edgecache.store.kv import MAX_VALUE, KvInvalid, KvStore, QuotaExceeded, Space, Usage
from edgecache.store.spaces import spot

CHILD = Path(__file__).parent / "child_kv.py"
SPACE = Space("acme", "f")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def state(tmp_path: Path):
    made = FunctionStore(tmp_path / "state", sync=False)
    yield made
    made.close()


@pytest.fixture
def kv(state: FunctionStore, clock: ManualClock) -> KvStore:
    return KvStore(state, clock=clock, max_bytes=10_000, max_keys=100)


def rows(state: FunctionStore, table: Table = Table.KV) -> int:
    return state.read(lambda txn: len(list(txn.items(table))))


def test_a_value_is_set_read_replaced_and_deleted(kv: KvStore) -> None:
    assert kv.get(SPACE, "k") is None
    assert not kv.exists(SPACE, "k")
    kv.set(SPACE, "k", b"\x00binary\xff")
    assert kv.get(SPACE, "k") == b"\x00binary\xff"
    assert kv.exists(SPACE, "k")
    kv.set(SPACE, "k", b"")
    assert kv.get(SPACE, "k") == b""
    assert kv.delete(SPACE, "k")
    assert not kv.delete(SPACE, "k")
    assert kv.get(SPACE, "k") is None
    assert kv.usage("acme", "f") == Usage()


def test_tenants_functions_and_stores_do_not_see_each_other(kv: KvStore) -> None:
    spaces = [Space(t, f, s) for t in ("a", "b") for f in ("f", "g") for s in ("default", "other")]
    for number, space in enumerate(spaces):
        kv.set(space, "k", b"%d" % number)
    for number, space in enumerate(spaces):
        assert kv.get(space, "k") == b"%d" % number
        assert kv.keys(space) == ["k"]
    assert kv.usage("a", "f") == Usage(2, 4)
    kv.drop("a", "f")
    assert [kv.get(space, "k") for space in spaces[:3]] == [None, None, b"2"]
    assert kv.usage("a", "f") == Usage()
    assert kv.usage("a", "g") == Usage(2, 4)


def test_a_value_ends_at_its_time_and_not_before(kv: KvStore, clock: ManualClock, state: FunctionStore) -> None:
    kv.set(SPACE, "short", b"1", ttl=10)
    kv.set(SPACE, "long", b"2")
    clock.advance(9.999)
    assert kv.get(SPACE, "short") == b"1"
    clock.advance(0.001)
    assert kv.get(SPACE, "short") is None
    assert not kv.exists(SPACE, "short")
    assert kv.keys(SPACE) == ["long"]
    assert kv.usage("acme", "f") == Usage(1, 5)
    assert not kv.delete(SPACE, "short")
    assert kv.swap(SPACE, "short", None, b"again")
    clock.advance(10**8)
    assert kv.get(SPACE, "short") == b"again"
    assert rows(state, Table.EXPIRIES) == 0


def test_setting_again_sets_the_time_to_live_again_and_counting_keeps_it(kv: KvStore, clock: ManualClock) -> None:
    kv.set(SPACE, "a", b"1", ttl=10)
    kv.set(SPACE, "b", b"1", ttl=10)
    kv.set(SPACE, "c", b"1", ttl=10)
    kv.set(SPACE, "a", b"2", ttl=30)
    kv.set(SPACE, "b", b"2")
    kv.increment(SPACE, "c")
    clock.advance(10)
    assert [kv.get(SPACE, key) for key in "abc"] == [b"2", b"2", None]
    clock.advance(20)
    assert [kv.get(SPACE, key) for key in "abc"] == [None, b"2", None]


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), 1e300])
def test_a_time_to_live_that_cannot_be_is_refused(kv: KvStore, ttl: float) -> None:
    with pytest.raises(KvInvalid, match="more than 0 and at most"):
        kv.set(SPACE, "k", b"", ttl=ttl)
    with pytest.raises(KvInvalid, match="more than 0 and at most"):
        kv.swap(SPACE, "k", None, b"", ttl=ttl)


def test_increment_starts_at_nought_and_refuses_what_is_no_number(kv: KvStore) -> None:
    assert kv.increment(SPACE, "n") == 1
    assert kv.increment(SPACE, "n", -5) == -4
    assert kv.get(SPACE, "n") == b"-4"
    for value in (b"", b"x", b"1.5", b" 1", b"+1", b"1_0", "\u0661".encode(), b"9" * 30):
        kv.set(SPACE, "t", value)
        with pytest.raises(KvInvalid, match="not a whole decimal number"):
            kv.increment(SPACE, "t")
        assert kv.get(SPACE, "t") == value
    kv.set(SPACE, "n", b"%d" % (2**63 - 1))
    with pytest.raises(KvInvalid, match="9223372036854775808, which does not fit 64 bits"):
        kv.increment(SPACE, "n")
    assert kv.get(SPACE, "n") == b"%d" % (2**63 - 1)


def test_swap_changes_only_what_it_expects(kv: KvStore) -> None:
    assert not kv.swap(SPACE, "k", b"", b"1")
    assert kv.swap(SPACE, "k", None, b"1")
    assert not kv.swap(SPACE, "k", None, b"2")
    assert not kv.swap(SPACE, "k", b"0", b"2")
    assert kv.swap(SPACE, "k", b"1", b"2")
    assert kv.get(SPACE, "k") == b"2"


def test_keys_are_listed_in_order_by_prefix_and_up_to_a_limit(kv: KvStore) -> None:
    for key in ("b", "a2", "a1", "a", "ä", "a10"):
        kv.set(SPACE, key, b"")
    assert kv.keys(SPACE) == ["a", "a1", "a10", "a2", "b", "ä"]
    assert kv.keys(SPACE, "a1") == ["a1", "a10"]
    assert kv.keys(SPACE, "a", limit=2) == ["a", "a1"]
    assert kv.keys(SPACE, limit=0) == []
    assert kv.keys(SPACE, "zz") == []
    with pytest.raises(KvInvalid, match="at most 1000 keys are listed at once, not 1001"):
        kv.keys(SPACE, limit=1001)


def test_long_keys_are_whole_for_their_owner(kv: KvStore) -> None:
    keys = ["k" * 447, "k" * 448, "k" * 449, "k" * 1023 + "x", "k" * 1023 + "y"]
    for number, key in enumerate(keys):
        kv.set(SPACE, key, b"%d" % number)
    assert [kv.get(SPACE, key) for key in keys] == [b"0", b"1", b"2", b"3", b"4"]
    assert set(kv.keys(SPACE)) == set(keys)
    assert kv.keys(SPACE, "k" * 1023) == [key for key in kv.keys(SPACE) if len(key) == 1024]
    assert kv.usage("acme", "f") == Usage(5, sum(map(len, keys)) + 5)


def test_quotas_are_exact_and_what_exceeds_them_changes_nothing(state: FunctionStore, clock: ManualClock) -> None:
    kv = KvStore(state, clock=clock, max_bytes=20, max_keys=3)
    kv.set(SPACE, "a", bytes(9))
    kv.set(SPACE, "b", bytes(9))
    assert kv.usage("acme", "f") == Usage(2, 20)
    with pytest.raises(QuotaExceeded, match="at most 20 bytes of keys and values; this would make 21, 1 too many") as e:
        kv.set(SPACE, "b", bytes(10))
    assert (e.value.what, e.value.limit, e.value.needed) == ("bytes", 20, 21)
    with pytest.raises(QuotaExceeded):
        kv.increment(SPACE, "n")
    with pytest.raises(QuotaExceeded):
        kv.swap(SPACE, "a", bytes(9), bytes(10))
    assert kv.get(SPACE, "b") == kv.get(SPACE, "a") == bytes(9)
    kv.set(SPACE, "b", b"")
    kv.set(SPACE, "c", b"")
    with pytest.raises(QuotaExceeded, match="at most 3 keys; this would make 4, 1 too many"):
        kv.set(SPACE, "d", b"")
    assert kv.delete(SPACE, "c")
    kv.set(Space("acme", "f", "other"), "a", b"")  # its stores count together
    with pytest.raises(QuotaExceeded, match="keys"):
        kv.set(SPACE, "c", b"")
    kv.set(Space("acme", "g"), "d", bytes(19))  # and functions do not


def test_what_is_over_a_quota_that_was_lowered_may_shrink(state: FunctionStore, clock: ManualClock) -> None:
    KvStore(state, clock=clock, max_bytes=1000, max_keys=5).set(SPACE, "k", bytes(900))
    kv = KvStore(state, clock=clock, max_bytes=100, max_keys=5)
    kv.set(SPACE, "k", bytes(500))
    with pytest.raises(QuotaExceeded):
        kv.set(SPACE, "k", bytes(501))
    assert kv.usage("acme", "f") == Usage(1, 501)


def test_of_many_that_have_expired_each_is_gone(kv: KvStore, clock: ManualClock) -> None:
    for number in range(60):
        kv.set(SPACE, f"{number:02}", b"7", ttl=1)
    clock.advance(1)
    assert not kv.delete(SPACE, "59")
    assert kv.increment(SPACE, "58") == 1
    assert kv.swap(SPACE, "57", None, b"new")
    assert kv.usage("acme", "f") == Usage(2, 8)


def test_what_has_expired_makes_room_at_once(state: FunctionStore, clock: ManualClock) -> None:
    kv = KvStore(state, clock=clock, max_bytes=10_000, max_keys=50)
    for number in range(50):
        kv.set(SPACE, f"old{number}", bytes(100), ttl=1)
    with pytest.raises(QuotaExceeded, match="keys"):
        kv.set(SPACE, "new", b"")
    clock.advance(1)
    for number in range(50):
        kv.set(SPACE, f"new{number}", bytes(100))
    assert kv.usage("acme", "f").keys == 50
    kv.drop("acme", "f")
    for number in range(40):
        kv.set(SPACE, f"old{number}", bytes(200), ttl=1)
    clock.advance(1)
    kv.set(SPACE, "large", bytes(9_900))
    assert kv.usage("acme", "f") == Usage(1, 9_905)


def test_the_largest_value_and_one_byte_more(state: FunctionStore, clock: ManualClock) -> None:
    kv = KvStore(state, clock=clock, max_bytes=10 * MAX_VALUE, max_keys=10)
    kv.set(SPACE, "k", bytes(MAX_VALUE))
    assert kv.get(SPACE, "k") == bytes(MAX_VALUE)
    with pytest.raises(QuotaExceeded, match="at most 1048576 bytes in one value; this would make 1048577, 1 too many"):
        kv.set(SPACE, "k", bytes(MAX_VALUE + 1))
    with pytest.raises(QuotaExceeded, match="in one value"):
        kv.swap(SPACE, "k", None, bytes(MAX_VALUE + 1))


def test_a_sweep_removes_what_has_expired_of_everybody(kv: KvStore, state: FunctionStore, clock: ManualClock) -> None:
    for number in range(30):
        space = Space("acme", f"f{number % 3}")
        kv.set(space, f"k{number}", b"1", ttl=1 if number % 2 else 100)
    kv.set(SPACE, "stays", b"")
    clock.advance(1)
    assert kv.sweep(limit=5) == 5
    assert kv.sweep() == 10
    assert kv.sweep() == 0
    assert rows(state) == 16
    assert rows(state, Table.EXPIRIES) == 15
    assert kv.usage("acme", "f0") == Usage(5, sum(len(f"k{n}1") for n in range(0, 30, 6)))


@pytest.mark.slow
def test_many_keys_are_listed_swept_and_dropped_in_steps(state: FunctionStore, clock: ManualClock) -> None:
    kv = KvStore(state, clock=clock, max_bytes=10**6, max_keys=3000)
    for number in range(2000):
        kv.set(SPACE, f"{number:05}", b"", ttl=1 if number < 1200 else None)
    clock.advance(1)
    assert kv.keys(SPACE, limit=10) == [f"{number:05}" for number in range(1200, 1210)]
    assert kv.sweep() == 1200
    assert rows(state, Table.EXPIRIES) == 0
    kv.drop("acme", "f")
    assert rows(state) == rows(state, Table.USAGE) == 0


def test_a_damaged_value_is_an_error_until_it_is_replaced(
    kv: KvStore, state: FunctionStore, clock: ManualClock
) -> None:
    at = spot(SPACE, "k").at

    def spoil(txn) -> None:
        row = bytearray(txn.scan(Table.KV, at).row())
        row[5] ^= 1  # the highest bits of its expiry: it would never end
        txn._txn.put(at, bytes(row), db=txn._tables[Table.KV])

    kv.set(SPACE, "k", b"1", ttl=10)
    state.write(spoil)
    with pytest.raises(StoreCorrupt):
        kv.get(SPACE, "k")
    with pytest.raises(StoreCorrupt):
        kv.increment(SPACE, "k")
    kv.set(SPACE, "k", b"2")
    clock.advance(10)
    assert kv.sweep() == 1  # the entry that was left over
    assert kv.get(SPACE, "k") == b"2"
    assert kv.usage("acme", "f") == Usage(1, 2)
    kv.delete(SPACE, "k")
    assert rows(state) == rows(state, Table.EXPIRIES) == rows(state, Table.USAGE) == 0


def test_a_row_too_short_to_be_one_hurts_nobody_else(kv: KvStore, state: FunctionStore) -> None:
    state.write(lambda txn: txn.put(Table.KV, spot(SPACE, "k").at, b"x"))
    kv.set(SPACE, "other", b"1")
    assert kv.keys(SPACE) == ["other"]
    kv.set(SPACE, "k", b"2")
    assert kv.get(SPACE, "k") == b"2"


# ---------------------------------------------------------------------------------------------- many at once


def together(*works) -> None:
    """Run all of them at once; raise what one of them raised."""
    failures: list[BaseException] = []
    start = threading.Barrier(len(works))

    def run(work) -> None:
        try:
            start.wait()
            work()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_eight_threads_that_count_lose_nothing(kv: KvStore) -> None:
    def count() -> None:
        for _ in range(200):
            kv.increment(SPACE, "n")

    together(*[count] * 8)
    assert kv.get(SPACE, "n") == b"1600"


def test_of_those_who_race_for_a_key_one_wins(kv: KvStore) -> None:
    won: list[tuple[int, int]] = []

    def race(number: int):
        def run() -> None:
            mine = b"%d" % number
            won.extend((turn, number) for turn in range(50) if kv.swap(SPACE, f"lock{turn}", None, mine))

        return run

    together(*[race(number) for number in range(6)])
    assert sorted(turn for turn, _ in won) == list(range(50))
    assert all(kv.get(SPACE, f"lock{turn}") == b"%d" % number for turn, number in won)


def test_a_counter_made_of_swaps_loses_nothing(kv: KvStore) -> None:
    kv.set(SPACE, "n", b"0")

    def count() -> None:
        done = 0
        while done < 25:
            now = kv.get(SPACE, "n") or b""
            done += kv.swap(SPACE, "n", now, b"%d" % (int(now) + 1))

    together(*[count] * 4)
    assert kv.get(SPACE, "n") == b"100"


def test_a_quota_holds_however_many_write(state: FunctionStore, clock: ManualClock) -> None:
    kv = KvStore(state, clock=clock, max_bytes=10**6, max_keys=37)
    refused: list[int] = []

    def fill(number: int):
        def run() -> None:
            for turn in range(20):
                try:
                    kv.set(SPACE, f"{number} {turn}", b"x")
                except QuotaExceeded:
                    refused.append(turn)

        return run

    together(*[fill(number) for number in range(5)])
    assert len(refused) == 63
    assert kv.usage("acme", "f").keys == len(kv.keys(SPACE)) == 37


@pytest.mark.slow
@pytest.mark.parametrize("acknowledged", [1, 60])
def test_a_kill_loses_nothing_acknowledged(tmp_path: Path, acknowledged: int) -> None:
    child = subprocess.Popen([sys.executable, CHILD, tmp_path / "state"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(acknowledged)]
    os.kill(child.pid, signal.SIGKILL)
    lines += [line for line in child.stdout.read().splitlines(keepends=True) if line.endswith(".\n")]
    child.wait()
    child.stdout.close()
    last = int(lines[-1].split()[0])
    state = FunctionStore(tmp_path / "state")
    kv = KvStore(state, clock=SystemClock(), max_bytes=10**9, max_keys=10**6)
    space = Space("acme", "counter")
    assert last <= int(kv.get(space, "n") or 0) <= last + 1
    for number in range(1, last + 1):
        assert (kv.get(space, f"key {number}") or b"")[:-2000] == b"%d" % number
    found = [kv.get(space, key) or b"" for key in kv.keys(space)]
    names = sum(len(key) for key in kv.keys(space))
    assert kv.usage("acme", "counter") == Usage(len(found), names + sum(map(len, found)))
    state.close()


# ---------------------------------------------------------------------------------------------- against a dict

KEYS = st.one_of(st.sampled_from(["a", "ab", "b", "ü"]), st.sampled_from("xy").map(lambda c: "k" * 500 + c))
VALUES = st.one_of(st.binary(max_size=30), st.integers(-99, 99).map(lambda n: b"%d" % n))
TTLS = st.one_of(st.none(), st.integers(1, 5).map(float))
SPACES = st.sampled_from([SPACE, Space("acme", "f", "two"), Space("acme", "g"), Space("b", "f")])


class Model(RuleBasedStateMachine):
    """A KvStore does what a dict with times does."""

    @initialize()
    def begin(self) -> None:
        self.temporary = TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.clock = ManualClock()
        self.store = FunctionStore(self.folder, sync=False)
        self.kv = KvStore(self.store, clock=self.clock, max_bytes=1500, max_keys=5)
        self.held: dict[tuple[Space, str], tuple[bytes, float]] = {}

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.temporary.cleanup()

    def live(self) -> dict[tuple[Space, str], bytes]:
        return {place: value for place, (value, ends) in self.held.items() if ends > self.clock.now()}

    def used(self, space: Space) -> Usage:
        mine = [
            (key, value)
            for (at, key), value in self.live().items()
            if (at.tenant, at.function) == (space.tenant, space.function)
        ]
        return Usage(len(mine), sum(len(key.encode()) + len(value) for key, value in mine))

    def fits(self, space: Space, key: str, value: bytes) -> bool:
        old, used = self.live().get((space, key)), self.used(space)
        size = len(key.encode())
        more = len(value) - len(old) if old is not None else size + len(value)
        return not ((old is None and used.keys + 1 > 5) or (more > 0 and used.bytes + more > 1500))

    def put(self, space: Space, key: str, value: bytes, ends: float, act) -> None:
        if self.fits(space, key, value):
            act()
            self.held[space, key] = value, ends
        else:
            with pytest.raises(QuotaExceeded):
                act()

    @rule(space=SPACES, key=KEYS, value=VALUES, ttl=TTLS)
    def set(self, space: Space, key: str, value: bytes, ttl: float | None) -> None:
        self.put(space, key, value, self.clock.now() + (ttl or 1e12), lambda: self.kv.set(space, key, value, ttl))

    @rule(space=SPACES, key=KEYS)
    def delete(self, space: Space, key: str) -> None:
        assert self.kv.delete(space, key) == ((space, key) in self.live())
        self.held.pop((space, key), None)

    @rule(space=SPACES, key=KEYS, delta=st.integers(-9, 9))
    def increment(self, space: Space, key: str, delta: int) -> None:
        old = self.live().get((space, key))
        if old is not None and not (old.removeprefix(b"-").isdigit() and len(old) < 15):
            with pytest.raises(KvInvalid):
                self.kv.increment(space, key, delta)
            return
        new = b"%d" % (int(old or 0) + delta)
        ends = self.held[space, key][1] if old is not None else 1e12
        self.put(space, key, new, ends, lambda: self.kv.increment(space, key, delta))

    @rule(space=SPACES, key=KEYS, new=VALUES, ttl=TTLS, right=st.booleans())
    def swap(self, space: Space, key: str, new: bytes, ttl: float | None, right: bool) -> None:
        old = self.live().get((space, key))
        if not right:
            assert not self.kv.swap(space, key, (old or b"") + b"?", new, ttl)
            return
        self.put(
            space, key, new, self.clock.now() + (ttl or 1e12), lambda: self.kv.swap(space, key, old, new, ttl) or 1 / 0
        )

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.clock.advance(float(seconds))

    @rule()
    def sweep(self) -> None:
        self.kv.sweep()

    @rule(space=SPACES)
    def drop(self, space: Space) -> None:
        self.kv.drop(space.tenant, space.function)
        gone = [at for at in self.held if (at[0].tenant, at[0].function) == (space.tenant, space.function)]
        for place in gone:
            del self.held[place]

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = FunctionStore(self.folder, sync=False)
        self.kv = KvStore(self.store, clock=self.clock, max_bytes=1500, max_keys=5)

    @invariant()
    def all_is_as_the_dict_has_it(self) -> None:
        if not hasattr(self, "kv"):
            return
        live = self.live()
        for space in {space for space, _ in self.held} | {SPACE}:
            assert set(self.kv.keys(space)) == {key for at, key in live if at == space}
            assert self.kv.usage(space.tenant, space.function) == self.used(space)
        for place in self.held:
            assert self.kv.get(*place) == live.get(place)
            assert self.kv.exists(*place) == (place in live)

    @invariant()
    def the_tables_agree(self) -> None:
        """What is counted is what is there, whether it has expired or not."""
        if not hasattr(self, "kv"):
            return

        def run(txn) -> None:
            for tenant, function in (("acme", "f"), ("acme", "g"), ("b", "f")):
                owner = owner_key(tenant, function)
                sizes = [len(row or b"") - 10 for _, row in txn.items(Table.KV, owner)]
                packed = txn.get(Table.USAGE, owner)
                counted = (int.from_bytes(packed[:8]), int.from_bytes(packed[8:])) if packed else (0, 0)
                assert counted == (len(sizes), sum(sizes))
            places = [bytes(at or b"") for _, at in txn.items(Table.EXPIRIES)]
            lasting = {at for at, row in txn.items(Table.KV) if row and row[:8] != bytes(8)}
            assert set(places) == lasting
            assert len(places) == len(lasting)

        self.store.read(run)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestModel.pytestmark = [pytest.mark.slow]
