"""What is known of each upstream at this moment, a row an upstream: load, round trip, health. Numbers, no judgement.

Columns are numpy arrays, so that a choice among thousands takes no longer than a millisecond. They are written on the
event loop only: by `dispatch` (its own requests), `probe` (round trip and load) and `health` (who is out).
Times are monotonic seconds.
"""

from collections.abc import Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Board:
    """The rows of the upstreams named `names`.

    * `inflight`: requests of this POP in progress; `unanswered`: those of them without a first token
    * `slots`: how many it takes from this POP, `inf` = no limit
    * `room`: tokens that it still takes in this minute, `inf` = no limit
    * `oldest`: when the longest-waiting request without a first token was sent, `inf` = there is none
    * `rtt`: seconds of a round trip, measured; NaN = not yet
    * `queued`, `running`, `capacity`, `kv`: requests waiting and in progress there by everybody, those it can run at
      once, share of its KV cache in use, as it says itself; NaN = not told. `told`: when it said so
    * `out`: when an ejected one may be tried again, 0 = it is in
    * `ramp`: share of its capacity that it gets while it comes back, 1 = all
    * `busy`: until when it asked to be left alone (429, 503, 529), 0 = it did not
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.row = {name: index for index, name in enumerate(self.names)}
        count = len(self.names)
        self.inflight: Ints = np.zeros(count, np.int64)
        self.unanswered: Ints = np.zeros(count, np.int64)
        self.slots: Floats = np.full(count, inf)
        self.room: Floats = np.full(count, inf)
        self.oldest: Floats = np.full(count, inf)
        self.rtt: Floats = np.full(count, np.nan)
        self.queued: Floats = np.full(count, np.nan)
        self.running: Floats = np.full(count, np.nan)
        self.capacity: Floats = np.full(count, np.nan)
        self.kv: Floats = np.full(count, np.nan)
        self.told: Floats = np.full(count, -inf)
        self.out: Floats = np.zeros(count)
        self.ramp: Floats = np.ones(count)
        self.busy: Floats = np.zeros(count)

    def take_over(self, other: "Board") -> None:
        """Copy what `other` knew of upstreams that are here too, apart from their limits (`slots`, `room`)."""
        kept = [(self.row[name], index) for name, index in other.row.items() if name in self.row]
        if not kept:
            return
        mine, theirs = (np.array(each) for each in zip(*kept, strict=True))
        for column in ("inflight", "unanswered", "oldest", "rtt", "queued", "running", "capacity", "kv", "told",
                       "out", "ramp", "busy"):  # fmt: skip
            getattr(self, column)[mine] = getattr(other, column)[theirs]
