import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.cache.evidence import Label, Segment, Track
from edgecache.pipeline import lesson

LABELS = st.builds(
    Label, st.floats(0.5, 1), st.floats(1e-4, 0.999), st.booleans(), hit=st.just(True), sampled=st.just(False)
)


@given(st.lists(LABELS, max_size=8), LABELS)
def test_what_is_taken_back_leaves_the_entry_as_it_was(before: list[Label], label: Label) -> None:
    segment, track = Segment(), Track()
    for each in before:
        lesson.take(segment, track, each)
    kept, offset, slope = msgspec.structs.replace(track, seen=list(track.seen)), segment.offset, segment.slope
    lesson.take_back(segment, track, lesson.take(segment, track, label), label)
    assert (track.right, track.wrong, sorted(track.seen)) == (kept.right, kept.wrong, sorted(kept.seen))
    assert (track.surprise, track.weight) == pytest.approx((kept.surprise, kept.weight))
    assert (segment.offset, segment.slope) == pytest.approx((offset, slope))
    assert segment.labels == len(before)


def test_a_bad_label_raises_the_risk_of_segment_and_entry() -> None:
    segment, track = Segment(), Track()
    bad = Label(0.9, 0.01, right=False, hit=True, sampled=False)
    assert lesson.take(segment, track, bad)[0] > 0
    assert track.surprise > 0
    assert (segment.right, segment.wrong) == (0, 0)  # people speak of their own accord: no estimate comes of it
