"""Learning from a label so that it can be taken back: people change their minds. Arithmetic only."""

from edgecache.cache import budget
from edgecache.cache.evidence import Label, Segment, Track

Lesson = tuple[float, float, float, float]
"""What a label changed: offset and slope of the segment, surprise and weight of the entry."""


def take(segment: Segment, track: Track, label: Label) -> Lesson:
    """Learn `label` and say what it changed. The label is one that does not count in the estimate (not `sampled`)."""
    before = segment.offset, segment.slope, track.surprise, track.weight
    budget.learn(segment, track, label)
    after = segment.offset, segment.slope, track.surprise, track.weight
    return after[0] - before[0], after[1] - before[1], after[2] - before[2], after[3] - before[3]


def take_back(segment: Segment, track: Track, lesson: Lesson, label: Label) -> None:
    """Undo `take(segment, track, label)`, which gave `lesson`: exact for the entry, as near as can be for the segment.

    The precision that the segment gained stays: it fades by itself.
    """
    offset, slope, surprise, weight = lesson
    segment.offset -= offset
    segment.slope -= slope
    segment.labels = max(segment.labels - 1, 0)
    track.surprise -= surprise
    track.weight = max(track.weight - weight, 0.0)
    track.right = max(track.right - label.right, 0)
    track.wrong = max(track.wrong - (not label.right), 0)
    if (seen := (label.similarity, label.right)) in track.seen:
        track.seen.remove(seen)
