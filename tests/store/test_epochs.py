import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.store import schema
from edgecache.store.epochs import Epochs, Kind, Mark, Selector


def head(make_entry, since: int, **fields):
    return schema.head_of(make_entry(**fields), since)


@pytest.mark.parametrize(
    "selector",
    [
        Selector(Kind.ALL),
        Selector(Kind.TENANT, "acme"),
        Selector(Kind.NAMESPACE, "docs"),
        Selector(Kind.NAMESPACE, "docs", "acme"),
        Selector(Kind.MODEL, "m"),
        Selector(Kind.MODEL, "m", "acme"),
        Selector(Kind.TAG, "t2"),
        Selector(Kind.TAG, "t2", "acme"),
        Selector(Kind.WRITER, "k1.u1"),
        Selector(Kind.WRITER, "k1", "acme"),
    ],
)
def test_a_matching_purge_covers_what_has_not_seen_it_and_nothing_newer(make_entry, selector) -> None:
    epochs = Epochs()
    epochs.set(selector, Mark(hard=5))
    old = head(make_entry, 4, namespace="docs", tags=("t1", "t2"), writer="k1.u1")
    new = head(make_entry, 5, namespace="docs", tags=("t1", "t2"), writer="k1.u1")
    assert epochs.covers(old) == (True, False)
    assert epochs.covers(new) == (False, False)


@pytest.mark.parametrize(
    "selector",
    [
        Selector(Kind.TENANT, "other"),
        Selector(Kind.NAMESPACE, "docs", "other"),
        Selector(Kind.NAMESPACE, ""),
        Selector(Kind.MODEL, "acme"),
        Selector(Kind.TAG, "t", "other"),
        Selector(Kind.TAG, "T"),
        Selector(Kind.WRITER, "k1.u2"),
        Selector(Kind.WRITER, ".u1"),
        Selector(Kind.WRITER, "k"),
        Selector(Kind.WRITER, "k1", "other"),
    ],
)
def test_a_purge_of_something_else_covers_nothing(make_entry, selector) -> None:
    epochs = Epochs()
    epochs.set(selector, Mark(hard=9, soft=9))
    for writer in ("", "k1.u1"):
        assert epochs.covers(head(make_entry, 1, namespace="docs", tags=("t",), writer=writer)) == (False, False)


def test_soft_and_hard_purges_are_told_apart(make_entry) -> None:
    epochs = Epochs()
    epochs.set(Selector(Kind.ALL), Mark().after(3, soft=True, at=1.0))
    assert epochs.covers(head(make_entry, 2)) == (False, True)
    mark = epochs.get(Selector(Kind.ALL))
    assert mark is not None
    epochs.set(Selector(Kind.ALL), mark.after(4, soft=False, at=2.0))
    assert epochs.covers(head(make_entry, 3)) == (True, False)
    assert epochs.covers(head(make_entry, 2)) == (True, True)


def test_only_marks_that_are_old_in_both_ways_may_be_forgotten() -> None:
    epochs = Epochs()
    epochs.set(Selector(Kind.TAG, "old"), Mark(hard=3, at=100.0))
    epochs.set(Selector(Kind.TAG, "soft since"), Mark(hard=3, soft=9, at=100.0))
    epochs.set(Selector(Kind.TAG, "recent"), Mark(hard=4, at=900.0))
    assert epochs.older(5, 500.0) == [Selector(Kind.TAG, "old")]
    epochs.forget(epochs.older(5, 500.0))
    assert len(epochs) == 2


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.booleans()), max_size=20))
def test_merging_a_batch_is_the_same_as_setting_its_marks(steps) -> None:
    direct, batch = Epochs(), Epochs()
    for epoch, (tag, soft) in enumerate(steps, 1):
        selector = Selector(Kind.TAG, tag)
        mark = (batch.get(selector) or Mark()).after(epoch, soft=soft, at=float(epoch))
        batch.set(selector, mark)
        direct.set(selector, mark)
    merged = Epochs()
    merged.merge(batch)
    for tag in ("a", "b"):
        assert merged.get(Selector(Kind.TAG, tag)) == direct.get(Selector(Kind.TAG, tag))
