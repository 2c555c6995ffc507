"""A stored answer as a reply: JSON as it was stored, or the same answer as a stream."""

from edgecache.pipeline.streams import EVENT_STREAM, in_form
from edgecache.types import CacheInfo, CacheStatus, Call, Entry, Reply

_REMEMBERED = 1024
_LARGEST = 16 * 1024
"""Bytes of the largest stream that is remembered: sixteen MiB in all."""


class Replay:
    """Makes replies of entries. The streams of popular entries are remembered: making one costs half an exact hit.

    An entry never changes under its id, so what is remembered is never stale; whether it may be served at all has been
    decided before it comes here.
    """

    def __init__(self) -> None:
        self._streams: dict[tuple[int, bool], bytes] = {}

    def reply(
        self,
        call: Call,
        entry: Entry,
        status: CacheStatus,
        now: float,
        *,
        similarity: float | None = None,
        score: float | None = None,
        detail: str | None = None,
    ) -> Reply:
        """The reply of a hit. `now` is Unix seconds; Age and ttl follow RFC 9111 and RFC 9211."""
        content_type, content = self.body(call, entry)
        info = CacheInfo(
            status,
            detail=detail,
            entry_id=entry.id,
            similarity=similarity,
            score=score,
            age=max(0, int(now - entry.created)),
            ttl=int(entry.expires - now),
        )
        return Reply(
            200,
            info,
            content_type=content_type,
            body=content,
            upstream=entry.upstream or None,
            prompt_tokens=entry.prompt_tokens,
            completion_tokens=entry.completion_tokens,
        )

    def body(self, call: Call, entry: Entry) -> tuple[str, bytes]:
        """Content type and bytes of `entry` in the form that `call` asked for."""
        if not call.stream or not entry.id:  # not yet stored: nothing to remember it by
            return in_form(call, entry.body)
        wanted = (entry.id, call.include_usage)
        stream = self._streams.get(wanted)
        if stream is None:
            _, stream = in_form(call, entry.body)
            if len(stream) <= _LARGEST:
                if len(self._streams) >= _REMEMBERED:
                    del self._streams[next(iter(self._streams))]
                self._streams[wanted] = stream
        return EVENT_STREAM, stream
