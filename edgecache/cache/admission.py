"""Who has written an answer, and whether it may serve other wordings of its question yet. Pure: no I/O, no clock.

Answers to other wordings are what an attacker can aim at others (`docs/threat-model.md`); an answer to an identical
request concerns nobody but those who ask the very same, so whatever is held back here still hits exactly.

A writer is named by hashes only: `KEY.USER` for an end user of an API key, `KEY` where the request names none, `.USER`
where there are no keys, and nothing at all where there are neither.
"""

from collections import OrderedDict
from hashlib import blake2b

from edgecache.config import Admission
from edgecache.types import Call, Entry

SECOND_SIGHTING = "second-sighting"
"""Held until another writer has asked the question too."""
WRITER_RATE = "writer-rate"
"""Held because its writer had added too many in that minute."""
OPEN = Admission()
"""No defences: whatever may be compared is let in."""

_END_USER = ("safety_identifier", "user")
"""Fields that name the end user; the first is OpenAI's successor of the second."""
_REMEMBERED = 8192
_MINUTE = 60.0


def writer(call: Call, settings: Admission) -> str:
    """The name of who makes this request; empty where nothing is known of them.

    An end user is what the client says: behind a key it counts only where the operator trusts that (`writer`).
    """
    if call.tenant.writer and settings.writer == "key":
        return call.tenant.writer
    named = (call.body.get(name) for name in _END_USER)
    user = next((given for given in named if isinstance(given, str) and given), None)
    key = call.tenant.writer
    if user is None:
        return key
    # The tenant is hashed along: the same person at two tenants has two names.
    told = f"{call.tenant.id}\0{user}".encode("utf-8", "surrogatepass")
    return f"{key}.{blake2b(told, digest_size=8).hexdigest()}"


def is_second(first: str, asker: str) -> bool:
    """Whether a request of `asker` shows that not only the writer `first` asks this.

    Another key does, and so does another end user of the same key, but a request that names no end user may be anyone's
    with that key. Without keys, where one of the two names no end user, a second request is all there is to go by.
    """
    key, _, user = first.partition(".")
    other_key, _, other_user = asker.partition(".")
    if key != other_key:
        return True
    if user and other_user:
        return user != other_user
    return not key


class Rates:
    """A token bucket a writer, for those that were active of late. Who is not remembered has a full bucket."""

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._remembered = remembered
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: str, limit: int, now: float) -> bool:
        """Whether writer `name` may add one more at `now` (s), of `limit` a minute; 0 and no name are without limit."""
        if not name or not limit:
            return True
        level, since = self._buckets.pop(name, (float(limit), now))
        level = min(float(limit), level + max(0.0, now - since) * limit / _MINUTE)
        allowed = level >= 1.0
        self._buckets[name] = (level - 1.0 if allowed else level, now)
        while len(self._buckets) > self._remembered:
            self._buckets.popitem(last=False)
        return allowed


def admit(settings: Admission, name: str, earlier: Entry | None, rates: Rates, now: float) -> tuple[str, int]:
    """What a new answer by writer `name` is held back for (empty = nothing), and the limit of entries it falls under.

    `earlier` is the answer to the same question that it replaces. What was let in stays in, whoever renews it: else a
    writer at its limits could take others' questions out of the semantic tier by asking them anew. One that was held is
    let in when another writer renews it, which is a second sighting by itself. `now` is in seconds.
    """
    limit = settings.max_entries_per_writer if name else 0
    if earlier is not None and earlier.text is not None and not earlier.held:
        return "", limit if earlier.writer == name else 0
    if not rates.take(name, settings.max_fills_per_minute, now):
        return WRITER_RATE, limit
    seen = earlier is not None and is_second(earlier.writer, name)
    return SECOND_SIGHTING if settings.second_sighting and not seen else "", limit
