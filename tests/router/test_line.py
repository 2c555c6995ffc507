"""Who is next: shares of tenants, order inside a tenant, groups."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from edgecache.router.line import Line, Shares, Ticket


def ticket(tenant: str = "a", group: str = "m", weight: float = 1.0, work: float = 1.0) -> Ticket:
    return Ticket(tenant=tenant, group=group, weight=weight, work=work)


def filled(*tickets: Ticket) -> Line[Ticket]:
    line: Line[Ticket] = Line()
    for each in tickets:
        line.add(each)
    return line


def served(line: Line[Ticket], count: int) -> list[Ticket]:
    """The next `count`, as they are served."""
    found = []
    for _ in range(count):
        head = line.first()
        assert head is not None
        line.serve(head)
        found.append(head)
    return found


def names(tickets: list[Ticket]) -> str:
    return "".join(each.tenant for each in tickets)


def test_one_tenant_is_served_in_the_order_in_which_it_came() -> None:
    tickets = [ticket(work=work) for work in (5, 1, 3)]
    assert served(filled(*tickets), 3) == tickets


def test_tenants_take_turns_however_many_of_one_wait() -> None:
    line = filled(*[ticket("a") for _ in range(5)], ticket("b"), ticket("c"))
    assert names(served(line, 7)) == "abcaaaa"


def test_a_tenant_of_twice_the_weight_has_twice_as_many_turns() -> None:
    line = filled(*[ticket(name, weight=weight) for _ in range(20) for name, weight in (("a", 2.0), ("b", 1.0))])
    assert names(served(line, 12)).count("a") == 8


def test_a_tenant_with_long_requests_has_fewer_turns() -> None:
    line = filled(*[ticket(name, work=work) for _ in range(20) for name, work in (("a", 300.0), ("b", 100.0))])
    assert names(served(line, 12)).count("a") == 3


def test_being_idle_earns_nothing() -> None:
    line = filled(*[ticket("a") for _ in range(20)])
    served(line, 10)
    for _ in range(10):
        line.add(ticket("b"))
    assert names(served(line, 6)).count("b") == 3


def test_leaving_and_coming_back_does_not_wipe_out_what_was_served() -> None:
    line = filled(*[ticket("a") for _ in range(9)], ticket("b", work=4.0))
    assert names(served(line, 2)) == "ab"
    line.add(ticket("b"))
    assert names(served(line, 5)) == "aaaab"


@settings(deadline=None, max_examples=100)
@given(st.data(), st.lists(st.floats(0.2, 5.0), min_size=2, max_size=5))
def test_work_by_weight_differs_by_less_than_one_request_of_each(data: st.DataObject, weights: list[float]) -> None:
    """The bound of start-time fair queueing, at each moment at which both have requests waiting."""
    works = st.floats(1.0, 50.0)
    line: Line[Ticket] = Line()
    biggest = [0.0] * len(weights)
    for _ in range(12):
        for index, weight in enumerate(weights):
            work = data.draw(works)
            biggest[index] = max(biggest[index], work / weight)
            line.add(ticket(str(index), weight=weight, work=work))
    done = [0.0] * len(weights)
    left = [12] * len(weights)
    while min(left):
        (head,) = served(line, 1)
        index = int(head.tenant)
        done[index] += head.work / head.weight
        left[index] -= 1
        for one, other in combinations(range(len(weights)), 2):
            assert abs(done[one] - done[other]) <= biggest[one] + biggest[other] + 1e-6


def test_who_leaves_was_never_there() -> None:
    line = filled(gone := ticket("b", work=1000.0), *[ticket("a") for _ in range(4)])
    line.remove(gone)
    line.add(ticket("b"))
    assert names(served(line, 3)) == "aba"
    assert gone not in line
    assert len(line) == 2


def test_a_group_without_room_keeps_nobody_else_waiting() -> None:
    line = filled(*[ticket("a", "full") for _ in range(3)], free := ticket("a", "free"))
    assert line.first({"full"}) is free
    assert line.first({"full", "free"}) is None
    assert (line.count("full"), line.count("free"), line.count("unknown")) == (3, 1, 0)


def test_groups_come_in_the_order_of_what_their_tenants_have_had() -> None:
    many = [ticket("a", f"group {index}") for index in range(6)]
    line = filled(*many, ticket("b", "other"), ticket("b", "other"))
    assert names(served(line, 4)) == "abab"


def test_a_busy_group_does_not_change_the_shares_in_a_slow_one() -> None:
    line = filled(*[ticket(name, "slow", weight) for _ in range(40) for name, weight in (("a", 3.0), ("b", 1.0))])
    had = []
    for _ in range(16):
        for _ in range(20):  # others are served all the time
            line.add(other := ticket("c", "quick"))
            line.serve(other)
        head = line.first({"quick"})
        assert head is not None
        line.serve(head)
        had.append(head)
    assert names(had).count("a") == 12


def test_the_newest_is_who_came_last_of_those_still_there() -> None:
    line = filled(first := ticket("a"), second := ticket("b"), third := ticket("a", "other"))
    assert line.newest() is third
    line.remove(third)
    assert line.newest() is second
    line.serve(second)
    assert line.newest() is first


def test_a_newcomer_counts_those_ahead_by_its_share() -> None:
    line = filled(*[ticket("a") for _ in range(30)])
    assert line.ahead("m", "a", 1.0) == 30
    assert line.ahead("m", "b", 1.0) == 1  # it alternates with the other
    assert line.ahead("m", "b", 3.0) < 1
    line.add(ticket("b"))
    assert line.ahead("m", "b", 1.0) == 3
    line.add(gone := ticket("c", weight=5.0))
    line.remove(gone)
    assert line.ahead("m", "b", 1.0) == 3
    assert line.ahead("other", "b", 1.0) == 0


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.sampled_from("abcd"))
def test_a_newcomer_is_told_as_many_as_are_served_before_it(waiting: list[str], tenant: str) -> None:
    line = filled(*map(ticket, waiting))
    expected = line.ahead("m", tenant, 1.0)
    line.add(newcomer := ticket(tenant))
    before = served(line, len(line)).index(newcomer)
    assert before <= expected + 1e-9


def test_forgetting_who_has_paid_costs_one_request_at_most() -> None:
    shares = Shares()
    for index in range(5000):
        shares.charge(f"tenant {index}", 1.0)
    assert len(shares._paid) <= 1024
    assert shares.start("tenant 4999") <= 1.0
    assert shares.start("a newcomer") == 0.0


def test_an_empty_line_remembers_nothing() -> None:
    line = filled(*[ticket("a", f"group {index}") for index in range(3)])
    served(line, 3)
    assert (len(line), line._groups, line._tickets, line._shares._paid) == (0, {}, {}, {})
