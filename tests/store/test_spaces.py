import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.store.functions import owner_key
from edgecache.store.spaces import MAX_KEY, MAX_STORE, WHOLE, KvInvalid, Space, base, spot

NAMES = st.text(max_size=12)
KEYS = st.one_of(
    st.text(min_size=1, max_size=20),
    st.builds(lambda head, tail: head * 440 + tail, st.sampled_from("ab"), st.text("ab", min_size=1, max_size=40)),
)


@given(
    st.tuples(NAMES, NAMES, st.text(min_size=1, max_size=8), KEYS),
    st.tuples(NAMES, NAMES, st.text(min_size=1, max_size=8), KEYS),
)
def test_two_values_lie_in_one_place_only_if_all_their_names_are_the_same(one, other) -> None:
    first, second = (spot(Space(*names[:3]), names[3]) for names in (one, other))
    assert (first.at == second.at) == (one == other)
    assert first.at.startswith(owner_key(one[0], one[1]))
    assert len(first.at) <= 511


@pytest.mark.parametrize("length", [1, WHOLE - 1, WHOLE, WHOLE + 1, WHOLE + 32, MAX_KEY])
def test_keys_keep_their_beginning_whatever_their_length(length: int) -> None:
    key, space = "k" * length, Space("t", "f")
    assert spot(space, key).at.startswith(base(space) + key.encode()[:WHOLE])
    assert spot(space, key).key == key.encode()


def test_a_long_key_cannot_be_made_to_look_like_another_ones_hash() -> None:
    space = Space("t", "f")
    at = spot(space, "k" * 500).at[len(base(space)) :]
    assert len(at) == WHOLE + 32 > WHOLE  # no key is kept whole at that length


@pytest.mark.parametrize(
    ("space", "key", "message"),
    [
        (Space("t", "f"), "", "a key is empty"),
        (Space("t", "f"), "k" * (MAX_KEY + 1), "at most 1024 bytes, not 1025"),
        (Space("t", "f"), "é" * 513, "at most 1024 bytes, not 1026"),
        (Space("t", "f"), "\ud800", "valid Unicode"),
        (Space("t", "f", ""), "k", "the name of a store is empty"),
        (Space("t", "f", "s" * (MAX_STORE + 1)), "k", "at most 64 bytes, not 65"),
    ],
)
def test_names_that_cannot_be_are_refused_with_their_limit(space: Space, key: str, message: str) -> None:
    with pytest.raises(KvInvalid, match=message):
        spot(space, key)
