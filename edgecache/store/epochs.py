"""Purges as epochs: which answers a purge covers, in constant time whatever their number. No I/O.

Ids of entries and purges come from one counter. A purge covers every matching answer that has not seen it: an answer
remembers the newest id that existed when its upstream request started (`Head.since`), so that a fill in flight during
a purge is covered too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from edgecache.store.schema import Head


class Kind(StrEnum):
    """What a purge selects by."""

    ALL = "all"
    TENANT = "tenant"
    NAMESPACE = "namespace"
    MODEL = "model"
    TAG = "tag"
    WRITER = "writer"
    ENTRY = "entry"


class Selector(NamedTuple):
    """Which answers to purge: `value` by `kind`, within `tenant`, or of any tenant when that is None.

    For `Kind.TENANT` the value is the tenant itself, for `Kind.ENTRY` the entry's id in decimal. A `Kind.WRITER` that
    names only a key covers what each of the key's end users has written.
    """

    kind: Kind
    value: str = ""
    tenant: str | None = None


_Key = tuple[str, str, str | None]


@dataclass(frozen=True, slots=True)
class Mark:
    """The newest hard and soft purge of one selector (ids; 0 = never), and when the last one was (Unix s)."""

    hard: int = 0
    soft: int = 0
    at: float = 0.0

    def after(self, epoch: int, *, soft: bool, at: float) -> "Mark":
        """This mark once purge `epoch` has happened."""
        return Mark(self.hard, epoch, at) if soft else Mark(epoch, self.soft, at)


class Epochs:
    """The purges in force."""

    def __init__(self) -> None:
        self._marks: dict[_Key, Mark] = {}

    def __len__(self) -> int:
        return len(self._marks)

    def set(self, selector: Selector, mark: Mark) -> None:
        """Put `mark` in force."""
        self._marks[selector] = mark

    def get(self, selector: Selector) -> Mark | None:
        """The mark of a selector; None if it was never purged."""
        return self._marks.get(selector)

    def merge(self, newer: "Epochs") -> None:
        """Take over the marks of `newer`."""
        self._marks.update(newer._marks)  # noqa: SLF001 - the same class

    def forget(self, selectors: list[Selector]) -> None:
        """Drop marks that no stored answer needs any more."""
        for selector in selectors:
            self._marks.pop(selector, None)

    def covers(self, head: Head) -> tuple[bool, bool]:
        """Whether a hard purge, and whether a soft one, covers the answer."""
        if not self._marks:
            return False, False
        hard = soft = 0
        for selector in _matching(head):
            mark = self._marks.get(selector)
            if mark is not None:
                hard, soft = max(hard, mark.hard), max(soft, mark.soft)
        return hard > head.since, soft > head.since

    def older(self, epoch: int, before: float) -> list[Selector]:
        """Selectors whose purges are all below `epoch` and were made before `before` (Unix s)."""
        return [
            Selector(Kind(s[0]), *s[1:])
            for s, m in list(self._marks.items())
            if max(m.hard, m.soft) < epoch and m.at < before
        ]


def _matching(head: Head) -> Iterator[_Key]:
    # Plain tuples: this runs on every read once anything was purged.
    yield Kind.ALL, "", None
    yield Kind.TENANT, head.tenant, None
    for tenant in (None, head.tenant):
        yield Kind.NAMESPACE, head.namespace, tenant
        yield Kind.MODEL, head.model, tenant
        for tag in head.tags:
            yield Kind.TAG, tag, tenant
        if head.writer:
            yield Kind.WRITER, head.writer, tenant
            yield Kind.WRITER, head.writer.partition(".")[0], tenant
