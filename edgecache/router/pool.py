"""The upstreams there are, what each of them serves, and what is known of them: the board, and offers by model."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from edgecache.clock import Clock
from edgecache.errors import ModelNotFound, NoUpstream, UpstreamError
from edgecache.router.board import Board, Floats, Ints
from edgecache.router.offers import Offers, facts
from edgecache.upstream.client import UpstreamClient

_MAX_AGE = 10.0
"""Seconds that a list asked from an upstream, or the failure to get one, is believed."""
_GUESSES = 256
"""Models that nobody is known to serve, whose offers are remembered: clients can name as many as they like."""
_AT_ONCE = 64
"""Upstreams that are asked for their lists at one time."""


@dataclass(slots=True)
class _Listing:
    """What an upstream last said that it serves; None = it has not said yet."""

    models: list[tuple[str, str]] | None = None
    asked: float = -inf
    error: UpstreamError | None = None
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Pool:
    """The upstreams of one daemon. A model list in the config wins over what the upstream says.

    `board` has a row for each, in configured order; a reload replaces it, so that nobody may keep row numbers, the
    board or offers across an await.
    """

    def __init__(self, clients: Sequence[UpstreamClient], *, clock: Clock) -> None:
        self._clock = clock
        self._listings: dict[str, _Listing] = {}
        self._serving: dict[str, list[str]] | None = None
        self._offers: dict[str, Offers] = {}
        self._guesses: dict[str, Offers] = {}
        self._learned: dict[str, Offers] = {}
        self._filled = clock.monotonic()
        self.board = Board(())
        self._take(clients)

    @property
    def clients(self) -> Sequence[UpstreamClient]:
        """The upstreams in configured order."""
        return tuple(self._clients.values())

    def client(self, name: str) -> UpstreamClient | None:
        """The upstream with this name; None = there is none (any more)."""
        return self._clients.get(name)

    def replace(self, clients: Sequence[UpstreamClient]) -> list[UpstreamClient]:
        """Take `clients` from now on; returns those no longer used, for the caller to close once they are idle.

        What is known of an upstream is kept by its name, what it serves by its URL and key.
        """
        before = self._clients
        self._take(clients)
        for name, client in before.items():
            if name not in self._clients or _place(client) != _place(self._clients[name]):
                self._listings.pop(name, None)
        self._changed()
        for model, offers in list(self._learned.items()):
            if not any(name in self._clients for name in offers.names):
                del self._learned[model]
        kept = set(map(id, clients))
        return [client for client in before.values() if id(client) not in kept]

    async def offers(self, model: str) -> Offers:
        """Who serves `model`, a row each, in configured order.

        A list is asked for only when no list at hand has the model; an upstream that cannot say what it serves is
        tried anyway. Raises `ModelNotFound`, naming the models there are, or `NoUpstream`.
        """
        found = self._certain(model)
        if found is not None:
            return found
        if not self._clients:
            raise NoUpstream("no upstream is configured")
        await self._refresh(self.clients)
        found = self._certain(model)
        if found is None:
            found = self._guess(model)
        if found is None:
            raise ModelNotFound(self._unknown(model), param="model")
        return found

    def known(self, model: str) -> Offers | None:
        """What `offers` would give without asking anybody; None = nobody is known to serve `model`.

        It is the same object until an upstream says something else or a reload, and learns meanwhile.
        """
        found = self._certain(model)
        return found if found is not None else self._guesses.get(model)

    async def models(self, *, neighbours: bool = True) -> list[tuple[str, str]]:
        """`(id, owned_by)` of every model served, each once, in configured order of the upstreams.

        Neighbour POPs are not asked but told of as they were last heard (by the prober): they may be waiting for this
        list themselves. `neighbours` False leaves out what only they serve, for a neighbour that asks. Raises
        `UpstreamError` when there is nothing to tell because an upstream could not be asked.
        """
        own = [client for client in self.clients if client.settings.dialect != "edgecache"]
        await self._refresh(own)
        told: dict[str, str] = {}
        for client in self.clients if neighbours else own:
            for name, owner in self._listed(client):
                told.setdefault(name, owner)
        errors = [listing.error for listing in self._listings.values() if listing.error is not None]
        if not told and errors:
            raise errors[0]
        return list(told.items())

    def heard(self, name: str, said: list[tuple[str, str]] | UpstreamError) -> None:
        """Take what the upstream `name` said that it serves, or why it did not.

        One that suddenly serves nothing (Dynamo between two workers) or is silent still counts as serving what it did.
        """
        client = self._clients.get(name)
        if client is None:
            return
        listing = self._listings.setdefault(name, _Listing())
        listing.asked = self._clock.monotonic()
        silent, before = self._silent(client), listing.models
        if isinstance(said, UpstreamError):
            listing.error = said
        else:
            listing.error = None
            listing.models = said or before or []
        if listing.models != before or self._silent(client) != silent:
            self._changed()

    def refill(self, now: float) -> None:
        """Give `board.room` the tokens of the time since the last call: a minute's worth a minute, and at most that."""
        if self._limited.size:
            gained = self._limits * (max(0.0, now - self._filled) / 60)
            self.board.room[self._limited] = np.minimum(self._limits, self.board.room[self._limited] + gained)
        self._filled = now

    # ------------------------------------------------------------------------------------------ rows
    def _take(self, clients: Sequence[UpstreamClient]) -> None:
        self._clients = {client.name: client for client in clients}
        board = Board(tuple(self._clients))
        board.take_over(self.board)
        settings = [client.settings for client in clients]
        board.slots[:] = [each.max_concurrency or inf for each in settings]
        board.room[:] = [each.tokens_per_minute or inf for each in settings]
        for name, row in board.row.items():
            earlier = self.board.row.get(name)
            if earlier is not None and settings[row].tokens_per_minute:  # what it was sent already still counts
                board.room[row] = min(board.room[row], self.board.room[earlier])
        self._limited: Ints = np.flatnonzero([each.tokens_per_minute for each in settings])
        self._limits: Floats = np.array([each.tokens_per_minute for each in settings], np.float64)[self._limited]
        self.board = board

    def _certain(self, model: str) -> Offers | None:
        """Those who are known to serve `model`; None = there is nobody."""
        found = self._offers.get(model)
        if found is None:
            if self._serving is None:
                self._serving = {}
                for client in self.clients:
                    for served in dict.fromkeys(name for name, _ in self._listed(client)):
                        self._serving.setdefault(served, []).append(client.name)
            if names := self._serving.get(model):
                found = self._offers[model] = self._built(model, names)
        return found

    def _built(self, model: str, names: Sequence[str]) -> Offers:
        rows = [self.board.row[name] for name in names]
        offers = Offers(model, rows, [facts(self._clients[name].settings, model) for name in names])
        if (learned := self._learned.get(model)) is not None:
            offers.take_over(learned)
        return offers

    def _guess(self, model: str) -> Offers | None:
        """Everybody who cannot say what it serves; None = all can."""
        if (found := self._guesses.get(model)) is not None:
            return found
        silent = [name for name, client in self._clients.items() if self._silent(client)]
        if not silent:
            return None
        while len(self._guesses) >= _GUESSES:
            del self._guesses[next(iter(self._guesses))]
        found = self._guesses[model] = self._built(model, silent)
        return found

    def _changed(self) -> None:
        """Build offers anew when they are next asked for, with what these have learned."""
        self._learned |= self._offers
        self._offers = {}
        self._serving = None
        self._guesses = {}

    # ------------------------------------------------------------------------------------------ model lists
    def _listed(self, client: UpstreamClient) -> list[tuple[str, str]]:
        """What the upstream serves, as far as it is known."""
        listing = self._listings.get(client.name)
        said = listing.models if listing is not None and listing.models is not None else []
        own = [(model, client.name) for model in client.settings.models] or said
        return own + [(name, client.name) for name in _adapters(client)]

    def _silent(self, client: UpstreamClient) -> bool:
        """Whether nobody can say what the upstream serves."""
        listing = self._listings.get(client.name)
        return not client.settings.models and (listing is None or listing.models is None or listing.error is not None)

    async def _refresh(self, clients: Sequence[UpstreamClient]) -> None:
        """Ask each of `clients` without a configured list, unless it was asked a moment ago or is left out."""
        turns, now = asyncio.Semaphore(_AT_ONCE), self._clock.monotonic()
        asked = [client for client in clients if not client.settings.models and self._in(client.name, now)]
        await asyncio.gather(*(self._ask(client, turns) for client in asked))

    def _in(self, name: str, now: float) -> bool:
        return bool(self.board.out[self.board.row[name]] <= now)

    async def _ask(self, client: UpstreamClient, turns: asyncio.Semaphore) -> None:
        listing = self._listings.setdefault(client.name, _Listing())
        async with listing.asking, turns:
            if self._clock.monotonic() - listing.asked < _MAX_AGE:
                return
            try:
                said: list[tuple[str, str]] | UpstreamError = await client.models()
            except UpstreamError as error:
                said = error
            if self._clients.get(client.name) is client:
                self.heard(client.name, said)

    def _unknown(self, model: str) -> str:
        served = sorted({name for client in self.clients for name, _ in self._listed(client)})
        return f"The model {model!r} does not exist here. Served: {', '.join(served) or 'none at the moment'}."


def _adapters(client: UpstreamClient) -> Sequence[str]:
    """LoRA adapters that are asked for as a model; trtllm-serve takes them in `lora_request`, beside its model."""
    return () if client.settings.dialect == "trtllm" else client.settings.loras


def _place(client: UpstreamClient) -> tuple[str, str | None]:
    return client.settings.url, client.settings.api_key
