"""What the times of an attempt teach the predictions of its upstream."""

import math

from edgecache.router import predict
from edgecache.router.offers import Offers
from edgecache.router.picking import Pick
from edgecache.router.pool import Pool


class Lessons:
    """Teaches the offers of the moment; those that a choice was made from may have been replaced by a reload.

    `tokens` are those of the prompt; times in seconds.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def first(self, pick: Pick, tokens: int, ttft: float, *, least: bool = False) -> float:
        """The first token came after `ttft`, or had not come by then (`least`). Returns how much it counted, 0 to 1."""
        offers = self._offers(pick)
        return 0.0 if offers is None else self._first(offers, pick, tokens, ttft, least=least)

    def _first(self, offers: Offers, pick: Pick, tokens: int, ttft: float, *, least: bool = False) -> float:
        board, name = self._pool.board, pick.client.name
        known = float(pick.known[pick.offers.row[name]])
        return predict.learn(
            offers,
            name,
            rtt=float(board.rtt[board.row[name]]) if name in board.row else math.nan,
            tokens=max(0, tokens - int(known)),
            ttft=ttft,
            predicted=pick.choice.ttft[0],
            work=pick.choice.work[0],
            least=least,
        )

    def rest(self, pick: Pick, generated: int, seconds: float) -> None:
        """So many tokens came in the `seconds` after the first."""
        if (offers := self._offers(pick)) is not None:
            predict.learn_rate(offers, pick.client.name, generated, seconds)

    def whole(self, pick: Pick, tokens: int, generated: int, seconds: float) -> None:
        """An answer came in one piece: that shows only the sum of its times, and each is taken to be as wrong as it.

        Were each learned as what the other leaves of the sum, or with a weight of its own, chance would shift time from
        one to the other for ever. For embeddings, where nothing is generated, it is the time to the first token alone.
        """
        if (offers := self._offers(pick)) is None:
            return
        name, reading = pick.client.name, pick.choice.ttft[0]
        first = seconds * reading / (reading + float(offers.decode[offers.row[name]]) * generated)
        weight = self._first(offers, pick, tokens, first)
        predict.learn_rate(offers, name, generated, seconds - first, weight)

    def late(self, pick: Pick, tokens: int, waited: float, *, stream: bool) -> None:
        """Nothing came in `waited`, so it takes longer. Else a slow one that always loses would go first for ever."""
        expected = pick.choice.ttft[0]
        ttft = waited if stream else waited - (pick.choice.total[0] - expected)
        if ttft > expected:
            self.first(pick, tokens, ttft, least=True)

    def _offers(self, pick: Pick) -> Offers | None:
        offers = self._pool.known(pick.leg.model)
        return offers if offers is not None and pick.client.name in offers.row else None
