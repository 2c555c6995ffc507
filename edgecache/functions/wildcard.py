"""Patterns in which `*` stands for any text, matched in a time that grows with the text's length, whatever it holds.

The texts come from clients, and are matched on the event loop: no pattern may backtrack.
"""


class Wildcard:
    """One pattern; every character but `*` stands for itself."""

    __slots__ = ("_end", "_middle", "_start")

    def __init__(self, pattern: str) -> None:
        start, *rest = pattern.split("*")
        self._start = start
        self._end = rest.pop() if rest else None
        self._middle = tuple(filter(None, rest))

    def matches(self, text: str) -> bool:
        """Whether the whole of `text` is such a text."""
        if self._end is None:
            return text == self._start
        if not (text.startswith(self._start) and text.endswith(self._end)):
            return False
        # The first place of each part leaves the most room for the next: no other place needs to be tried.
        place, last = len(self._start), len(text) - len(self._end)
        for part in self._middle:
            found = text.find(part, place, last)
            if found < 0:
                return False
            place = found + len(part)
        return place <= last
