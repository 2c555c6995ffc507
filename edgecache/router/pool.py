"""The upstreams there are, which of them serves a model, and whose turn it is. Round robin among those that do."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from edgecache.clock import Clock
from edgecache.errors import ModelNotFound, NoUpstream, UpstreamError
from edgecache.upstream.client import UpstreamClient

_MAX_AGE = 10.0
"""Seconds that a list asked from an upstream, or the failure to get one, is believed."""


@dataclass(slots=True)
class _Listing:
    """What an upstream last said that it serves; None = it has not said yet."""

    models: list[tuple[str, str]] | None = None
    asked: float = field(default=float("-inf"))
    error: UpstreamError | None = None


class Pool:
    """The upstreams of one daemon. A model list in the config wins over what the upstream says."""

    def __init__(self, clients: Sequence[UpstreamClient], *, clock: Clock) -> None:
        self._clients = list(clients)
        self._clock = clock
        self._listings: dict[str, _Listing] = {}
        self._turns: dict[tuple[str, ...], int] = {}
        self._asking = asyncio.Lock()

    @property
    def clients(self) -> Sequence[UpstreamClient]:
        """The upstreams in configured order."""
        return tuple(self._clients)

    def replace(self, clients: Sequence[UpstreamClient]) -> list[UpstreamClient]:
        """Take `clients` from now on; returns those no longer used, for the caller to close once they are idle."""
        retired = [client for client in self._clients if client not in clients]
        self._clients = list(clients)
        self._listings.clear()
        self._turns.clear()
        return retired

    async def pick(self, model: str, exclude: Collection[str] = (), prefer: str = "") -> UpstreamClient:
        """The upstream whose turn it is among those that serve `model`, without those named in `exclude`.

        The one named `prefer` always has its turn, if it is among them.

        A list is asked for only when no list at hand has the model; an upstream that cannot say what it serves is
        tried anyway. Raises `ModelNotFound`, naming the models there are, or `NoUpstream`.
        """
        if not self._clients:
            raise NoUpstream("no upstream is configured")
        serving = [client for client in self._clients if self._serves(client, model)]
        if not serving:
            await self._refresh()
            serving = [client for client in self._clients if self._serves(client, model)]
            serving = serving or [client for client in self._clients if self._silent(client)]
        if not serving:
            raise ModelNotFound(self._unknown(model), param="model")
        usable = [client for client in serving if client.name not in exclude]
        if not usable:
            raise NoUpstream(f"no other upstream serves {model!r}")
        return next((client for client in usable if client.name == prefer), None) or self._next(usable)

    async def models(self) -> list[tuple[str, str]]:
        """`(id, owned_by)` of every model served, each once, in configured order of the upstreams.

        Raises `UpstreamError` when there is nothing to tell because an upstream could not be asked.
        """
        await self._refresh()
        known: dict[str, str] = {}
        for client in self._clients:
            for name, owner in self._known(client):
                known.setdefault(name, owner)
        errors = [listing.error for listing in self._listings.values() if listing.error is not None]
        if not known and errors:
            raise errors[0]
        return list(known.items())

    def _next(self, usable: list[UpstreamClient]) -> UpstreamClient:
        names = tuple(client.name for client in usable)
        turn = self._turns.get(names, 0)
        self._turns[names] = turn + 1
        return usable[turn % len(usable)]

    def _known(self, client: UpstreamClient) -> list[tuple[str, str]]:
        if client.settings.models:
            return [(model, client.name) for model in client.settings.models]
        listing = self._listings.get(client.name)
        return (listing.models or []) if listing is not None else []

    def _serves(self, client: UpstreamClient, model: str) -> bool:
        return model in client.settings.models or any(name == model for name, _ in self._known(client))

    def _silent(self, client: UpstreamClient) -> bool:
        """Whether nobody can say what the upstream serves."""
        listing = self._listings.get(client.name)
        return not client.settings.models and (listing is None or listing.models is None or listing.error is not None)

    async def _refresh(self) -> None:
        """Ask each upstream without a configured list, unless it was asked a moment ago."""
        async with self._asking:
            for client in self._clients:
                listing = self._listings.setdefault(client.name, _Listing())
                if client.settings.models or self._clock.monotonic() - listing.asked < _MAX_AGE:
                    continue
                try:
                    listing.models, listing.error = await client.models(), None
                except UpstreamError as error:
                    listing.error = error
                listing.asked = self._clock.monotonic()

    def _unknown(self, model: str) -> str:
        served = sorted({name for client in self._clients for name, _ in self._known(client)})
        return f"The model {model!r} does not exist here. Served: {', '.join(served) or 'none at the moment'}."
