"""Wording that gives away a question whose answer changes with the clock. Lower-case English, words and phrases."""

import re
from collections.abc import Iterable
from itertools import groupby

WORDS = (
    *("today", "tonight", "tomorrow", "yesterday", "now", "nowadays", "currently", "current", "these days"),
    *("at the moment", "so far", "latest", "newest", "recent", "recently", "upcoming", "trending", "up to date"),
    *("up-to-date", "weather", "forecast", "news", "headlines", "price", "prices", "exchange rate", "live score"),
    *("live scores", "live stream", "what time", "what day", "what date", "date is it", "time is it"),
    *(
        f"{which} {span}"
        for which in ("this", "next", "last", "past", "coming")
        for span in ("hour", "morning", "afternoon", "evening", "night", "week", "weekend", "month", "season", "year")
    ),
)

_SCANNED = 4096
"""Characters looked at from either end: a question about pasted text stands before or after it, and a long text must
not hold up the event loop."""


def _alternatives(words: Iterable[str]) -> str:
    """The words grouped by their first letter: half the time of trying each one in turn."""
    groups = groupby(sorted(words), key=lambda word: word[0])
    return "|".join(f"{letter}(?:{'|'.join(word[1:] for word in group)})" for letter, group in groups)


_PATTERN = re.compile(rf"\b(?:{_alternatives(WORDS)})\b")


def is_time_sensitive(text: str) -> bool:
    """Whether the answer to `text` is likely to be another one within days."""
    if len(text) > 2 * _SCANNED:
        text = f"{text[:_SCANNED]} {text[-_SCANNED:]}"
    return _PATTERN.search(text.lower()) is not None
