"""Durable evidence on semantic hits, in the entries' own LMDB environment: see `store.rows` for what there is.

What every lookup asks (words on pairs, marks) is answered from memory, tracks by one LMDB read; what a request was
given is remembered at once and written behind. Everything is bounded: the oldest goes, what people said last. A
damaged row is dropped and counted. What the evidence means is not known here: `pipeline.learner` owns that.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

import lmdb

from edgecache.errors import StoreError
from edgecache.store import rows
from edgecache.store.database import Database, translate
from edgecache.store.rows import Mark, SegmentRow, Serve, Word
from edgecache.store.schema import id_of, key_of
from edgecache.store.writer import Batch, Writer
from edgecache.telemetry.metrics import Metrics

MAX_WORDS: Final = 100_000
MAX_SERVES: Final = 65_536
MAX_TRACKS: Final = 200_000
_MAX_TENANTS: Final = 4096
_LOOK: Final = 1024
"""Tracks looked at in one go when there are too many."""
_OVERHEAD: Final = 128
_SERVE_BYTES: Final = 512


class Evidence:
    """The evidence of one store. Reads and `served` are synchronous; other writes are awaited until committed."""

    def __init__(self, db: Database, writer: Writer, metrics: Metrics) -> None:
        """Reads what there is; raises StoreError when the file cannot be read."""
        self._db = db
        self._writer = writer
        self._metrics = metrics
        self._tenants: dict[str, bytes] = {}
        self._words: dict[bytes, tuple[bool, int]] = {}  # oldest first
        self._automatic: dict[bytes, None] = {}
        self._good: dict[bytes, None] = {}
        self._marks: dict[bytes, Mark] = {}
        self._given: dict[tuple[str, str], Serve] = {}
        self._own: dict[tuple[str, str], Serve] = {}
        self._pending: list[Serve] = []
        self._doomed: list[tuple[Any, bytes]] = []
        self._seq = 0
        self.erased: Callable[[str | None], None] = lambda _tenant: None
        """Told when the evidence of a tenant, or with None of all of them, is gone."""
        try:
            self._load()
        except lmdb.Error as error:
            raise translate(error) from error

    # ------------------------------------------------------------------------------------------ opening

    def _load(self) -> None:
        said = sorted(self._rows(self._db.words, Word), key=lambda pair: pair[1].at)
        for key, word in said:
            self._note(key, word)
        self._marks = {mark.digest: mark for _, mark in self._rows(self._db.marks, Mark)}
        for key, serve in self._rows(self._db.serves, Serve):
            self._seq = max(self._seq, id_of(key))
            self._given[serve.tenant, serve.request_id] = serve

    def segments(self) -> list[SegmentRow]:
        """All stored segments."""
        return [row for _, row in self._rows(self._db.segments, SegmentRow)]

    def _rows(self, table: Any, kind: type[Any]) -> Iterator[tuple[bytes, Any]]:
        with self._db.lock, self._db.env.begin() as txn:
            for key, row in txn.cursor(db=table):
                value = rows.unpack(key, row, kind)
                if value is None:
                    self.spoilt(table, key)
                else:
                    yield key, value

    def spoilt(self, table: Any, key: bytes) -> None:
        """Drop the row under `key` with the next flush, and count it."""
        self._doomed.append((table, key))
        self._metrics.cache_side_errors.labels("evidence").inc()

    def _tenant(self, tenant: str) -> bytes:
        key = self._tenants.get(tenant)
        if key is None:
            if len(self._tenants) >= _MAX_TENANTS:
                self._tenants.clear()
            key = self._tenants[tenant] = rows.tenant_key(tenant)
        return key

    # ------------------------------------------------------------------------------------------ reading

    def mark(self, digest: bytes) -> Mark | None:
        """What an operator decided of an entry."""
        return self._marks.get(digest) if self._marks else None

    def marks(self) -> list[Mark]:
        """Every mark, oldest first."""
        return sorted(self._marks.values(), key=lambda mark: mark.at)

    def word(self, tenant: str, entry: bytes, question: bytes) -> bool | None:
        """Whether the answer of `entry` was called good for `question`; None = nothing was said. Digests."""
        if not self._words:
            return None
        said = self._words.get(rows.pair_key(self._tenant(tenant), entry, question))
        return None if said is None else said[0]

    def bad(self, count: int) -> list[Word]:
        """The last `count` words that called a pair bad, newest first. Takes a microsecond or two a word."""
        keys = list(islice((key for key, said in reversed(self._words.items()) if not said[0]), count))
        found = (self._read(self._db.words, key) for key in keys)
        words = (rows.unpack(key, row, Word) for key, row in zip(keys, found, strict=True) if row is not None)
        return [word for word in words if word is not None]

    def tracks(self, wanted: Iterable[tuple[str, bytes]]) -> list[bytes | None]:
        """The stored track of each (tenant, entry digest)."""
        try:
            with self._db.lock, self._db.env.begin() as txn:
                return [self._track(txn, rows.digest_key(self._tenant(tenant), digest)) for tenant, digest in wanted]
        except lmdb.Error as error:
            raise translate(error) from error

    def _track(self, txn: Any, key: bytes) -> bytes | None:
        row = txn.get(key, db=self._db.tracks)
        payload = None if row is None else rows.payload_of(key, row)
        if row is not None and payload is None:
            self.spoilt(self._db.tracks, key)
        return payload

    def _read(self, table: Any, key: bytes) -> bytes | None:
        try:
            with self._db.lock, self._db.env.begin() as txn:
                row: bytes | None = txn.get(key, db=table)
                return row
        except lmdb.Error as error:
            raise translate(error) from error

    # ------------------------------------------------------------------------------------------ requests

    def served(self, serve: Serve) -> None:
        """Remember what a request was given. Its own answer is remembered in memory alone: those are too many."""
        name = serve.tenant, serve.request_id
        self._own.pop(name, None)
        if (before := self._given.pop(name, None)) is not None:
            self._doomed.append((self._db.serves, key_of(before.seq)))
        if serve.own:
            if len(self._own) >= MAX_SERVES:
                del self._own[next(iter(self._own))]
            self._own[name] = serve
            return
        self._seq += 1
        serve.seq = self._seq
        self._pending.append(serve)
        self._given[name] = serve

    def serve(self, tenant: str, request_id: str) -> Serve | None:
        """What a request was given, as far as that is remembered."""
        name = tenant, request_id
        return self._given.get(name) or self._own.get(name)

    async def flush(self, before: float) -> None:
        """Write what was served since the last call, and forget requests from before `before` (Unix s)."""
        fresh, self._pending = self._pending, []
        doomed, self._doomed = self._doomed, []
        late = [*_late(self._given, before), *_late(self._own, before)]
        gone = [key_of(serve.seq) for serve in late if serve.seq]
        if not (fresh or gone or doomed):
            return

        def run(batch: Batch) -> None:
            for key, row in list(self._packed(fresh)):  # here, in the writer's thread: there may be thousands
                batch.txn.put(key, row, db=self._db.serves)
            for key in gone:
                batch.txn.delete(key, db=self._db.serves)
            for table, key in doomed:
                batch.txn.delete(key, db=table)

        await self._writer.submit(run, size=_SERVE_BYTES * len(fresh))

    def _packed(self, serves: Iterable[Serve]) -> Iterator[tuple[bytes, bytes]]:
        for serve in serves:
            key = key_of(serve.seq)
            try:
                yield key, rows.pack(key, serve)
            except StoreError:
                self._metrics.cache_side_errors.labels("evidence").inc()

    # ------------------------------------------------------------------------------------------ learning

    def outranked(self, word: Word) -> bool:
        """Whether somebody with more authority has said otherwise of the pair."""
        said = self._words.get(self._word_key(word))
        return said is not None and said[1] > word.rank and said[0] is not word.good

    def _word_key(self, word: Word) -> bytes:
        return rows.pair_key(self._tenant(word.tenant), word.entry, word.question)

    async def write(
        self,
        *,
        segment: SegmentRow | None = None,
        track: tuple[str, bytes, bytes] | None = None,
        word: Word | None = None,
        serve: Serve | None = None,
    ) -> None:
        """Store what was learned, in one commit. A word holds at once; `track` is tenant, entry digest and track."""
        puts: list[tuple[Any, bytes, bytes]] = []
        gone: list[bytes] = []
        if segment is not None:
            puts.append(self._put(self._db.segments, rows.segment_key(segment.name), segment))
        if track is not None:
            puts.append(self._put(self._db.tracks, rows.digest_key(self._tenant(track[0]), track[1]), track[2]))
        if serve is not None and serve.seq:
            puts.append(self._put(self._db.serves, key_of(serve.seq), serve))
        if word is not None:
            key = self._word_key(word)
            puts.append(self._put(self._db.words, key, word))
            gone = self._note(key, word)

        def run(batch: Batch) -> None:
            for table, key, row in puts:
                batch.txn.put(key, row, db=table)
            for key in gone:
                batch.txn.delete(key, db=self._db.words)
            if track is not None:
                self._trim_tracks(batch.txn, rows.digest_key(rows.tenant_key(track[0]), track[1]))

        # A bad word may use the space that is kept for purges: what is wrong must be remembered by a full store too.
        urgent = word is not None and not word.good
        await self._writer.submit(run, size=0 if urgent else _size(row for *_, row in puts))

    def _put(self, table: Any, key: bytes, value: Any) -> tuple[Any, bytes, bytes]:
        return table, key, rows.pack(key, value)

    def _note(self, key: bytes, word: Word) -> list[bytes]:
        """Take a word into memory; the keys of words that had to go for it."""
        self._forget_word(key)
        self._words[key] = word.good, word.rank
        if word.rank == 0:
            self._automatic[key] = None
        elif word.good:
            self._good[key] = None
        gone = []
        while len(self._words) > MAX_WORDS:  # what people called bad goes last
            oldest = next(iter(self._automatic or self._good or self._words))
            self._forget_word(oldest)
            gone.append(oldest)
        return gone

    def _forget_word(self, key: bytes) -> None:
        self._words.pop(key, None)
        self._automatic.pop(key, None)
        self._good.pop(key, None)

    def _trim_tracks(self, txn: Any, newest: bytes) -> None:
        """Over the bound, drop tracks of entries that are gone, or if all are there, some: next to the newest.

        Keys begin with the tenant, so the tenant who adds tracks gives them up; within it they are hashes.
        """
        if txn.stat(self._db.tracks)["entries"] <= MAX_TRACKS:
            return
        cursor = txn.cursor(db=self._db.tracks)
        cursor.set_range(newest)
        keys = list(islice(cursor.iternext(values=False), 1, _LOOK))
        keys = keys or list(islice(txn.cursor(db=self._db.tracks).iternext(values=False), _LOOK))
        orphans = [key for key in keys if txn.get(rows.digest_of(key), db=self._db.digests) is None]
        for key in orphans or keys[:: _LOOK // 16]:
            txn.delete(key, db=self._db.tracks)

    async def keep_segments(self, kept: Iterable[SegmentRow], gone: Iterable[rows.SegmentName] = ()) -> None:
        """Store segments, and remove others."""
        puts = []
        for row in kept:
            try:
                puts.append(self._put(self._db.segments, rows.segment_key(row.name), row))
            except StoreError:
                self._metrics.cache_side_errors.labels("evidence").inc()
        names = [rows.segment_key(name) for name in gone]

        def run(batch: Batch) -> None:
            for table, key, row in puts:
                batch.txn.put(key, row, db=table)
            for key in names:
                batch.txn.delete(key, db=self._db.segments)

        await self._writer.submit(run, size=_size(row for *_, row in puts))

    async def set_mark(self, mark: Mark) -> None:
        """Remember an operator's decision; it holds from now on and is durable when this returns."""
        key = rows.digest_key(self._tenant(mark.tenant), mark.digest)
        row = rows.pack(key, mark)
        self._marks[mark.digest] = mark
        # Without a size it may use the space that is kept for purges: a ban must be possible in a full store.
        await self._writer.submit(lambda batch: batch.txn.put(key, row, db=self._db.marks))

    async def release(self, mark: Mark) -> None:
        """Take an operator's decision back."""
        key = rows.digest_key(self._tenant(mark.tenant), mark.digest)
        await self._writer.submit(lambda batch: batch.txn.delete(key, db=self._db.marks))
        self._marks.pop(mark.digest, None)

    # ------------------------------------------------------------------------------------------ purging

    def erase_entry(self, batch: Batch, tenant: str, digest: bytes) -> list[bytes]:
        """Remove the track of an entry and the good words on it; their keys, for `forget`. In the writer's thread.

        Bad words stay: they are about two questions, and the next answer to one does not answer the other either.
        """
        owner = rows.tenant_key(tenant)
        batch.txn.delete(rows.digest_key(owner, digest), db=self._db.tracks)
        return _drop(batch.txn, self._db.words, rows.entry_key(owner, digest), keep=_is_bad)

    def erase(self, batch: Batch, tenant: str | None) -> list[bytes]:
        """Remove what was learned of a tenant, with None of all. Marks stay: they are decisions, not evidence."""
        learned = (self._db.segments, self._db.tracks, self._db.words)
        if tenant is None:
            for table in (*learned, self._db.serves):
                batch.txn.drop(table, delete=False)
            return []
        owner = rows.tenant_key(tenant)
        gone = [_drop(batch.txn, table, owner) for table in learned]
        for key, row in list(batch.txn.cursor(db=self._db.serves)):
            serve = rows.unpack(key, row, Serve)
            if serve is None or serve.tenant == tenant:
                batch.txn.delete(key, db=self._db.serves)
        return gone[-1]

    def forget(self, words: Iterable[bytes]) -> None:
        """Forget the words under these keys, which have been erased."""
        for key in words:
            self._forget_word(key)

    async def forget_tenant(self, tenant: str | None, words: Iterable[bytes]) -> None:
        """Forget what was erased of a tenant, with None of all."""
        self.forget(words)
        if tenant is None:
            self._words.clear()
            self._automatic.clear()
            self._good.clear()
        for held in (self._given, self._own):
            names = list(held)
            for name in names if tenant is None else await asyncio.to_thread(_of_tenant, names, tenant):
                held.pop(name, None)
        self._pending = [serve for serve in self._pending if tenant is not None and serve.tenant != tenant]
        self.erased(tenant)


def _of_tenant(names: Iterable[tuple[str, str]], tenant: str) -> list[tuple[str, str]]:
    return [name for name in names if name[0] == tenant]


def _late(held: dict[tuple[str, str], Serve], before: float) -> list[Serve]:
    """Take out of `held` what is older than `before`, and what is beyond the bound."""
    over = len(held) - MAX_SERVES
    gone: list[tuple[tuple[str, str], Serve]] = []
    for name, serve in held.items():
        if serve.at >= before and len(gone) >= over:
            break
        gone.append((name, serve))
    for name, _ in gone:
        del held[name]
    return [serve for _, serve in gone]


def _drop(
    txn: Any, table: Any, prefix: bytes, *, keep: Callable[[bytes, bytes], bool] = lambda _key, _row: False
) -> list[bytes]:
    """Delete every row whose key begins with `prefix`, but for those to keep; the keys of the deleted."""
    gone: list[bytes] = []
    cursor = txn.cursor(db=table)
    there = cursor.set_range(prefix)
    while there and cursor.key().startswith(prefix):
        if keep(cursor.key(), cursor.value()):
            there = cursor.next()
        else:
            gone.append(cursor.key())
            there = cursor.delete()
    return gone


def _is_bad(key: bytes, row: bytes) -> bool:
    word = rows.unpack(key, row, Word)
    return word is not None and not word.good


def _size(ready: Iterable[bytes]) -> int:
    return sum(len(row) + _OVERHEAD for row in ready)
