"""Which functions run for a request, in which order: the bindings of all manifests, looked up by what a request is.

Asked several times a request, so what was found is remembered until the registry's generation changes. Where nothing is
bound that costs a comparison.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from edgecache.functions.manifest import Bind, Phase
from edgecache.functions.registry import Registry
from edgecache.functions.versions import Active
from edgecache.functions.wildcard import Wildcard

EVERYONE = "*"
"""The tenant of the operator's own functions, which may be bound to any tenant's requests."""
_REMEMBERED = 4096


class Bound(msgspec.Struct, frozen=True):
    """A function and the binding that it runs for."""

    active: Active
    bind: Bind


Chain = tuple[Bound, ...]
Chains = Mapping[Phase, Chain]
"""The functions of one request by phase, each in order; a phase without any is left out."""
_Place = tuple[str, str, str, tuple[str, ...]]
_NOTHING: Chains = {}


class Bindings:
    """The functions of a registry by phase, tenant, model, path and tags."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._generation = -1
        self._phases: dict[Phase, list[_Rule]] = {}
        self._chains: dict[_Place, Chains] = {}

    @property
    def any(self) -> bool:
        """Whether any function is bound to any phase but `route`."""
        if self._registry.generation != self._generation:
            self._compile()
        return bool(self._phases)

    def chains(self, tenant: str, model: str, path: str, tags: tuple[str, ...] = ()) -> Chains:
        """The functions of a request; `path` is that of the endpoint."""
        if not self.any:
            return _NOTHING
        place = (tenant, model, path, tags)
        chains = self._chains.get(place)
        if chains is None:
            chains = self._found(place)
            if len(self._chains) >= _REMEMBERED:
                del self._chains[next(iter(self._chains))]
            self._chains[place] = chains
        return chains

    def _found(self, place: _Place) -> Chains:
        found = {
            phase: tuple(rule.bound for rule in rules if rule.matches(*place)) for phase, rules in self._phases.items()
        }
        return {phase: chain for phase, chain in found.items() if chain} or _NOTHING

    def route(self, tenant: str, name: str, path: str) -> Bound | None:
        """The function `name` for plain HTTP at `path`: the tenant's own, else the operator's; None without either."""
        for active in self._named(name, tenant):
            for bind in active.stable.version.manifest.bind:
                if bind.phase is Phase.ROUTE and _Rule(Bound(active, bind)).matches(tenant, "", path, ()):
                    return Bound(active, bind)
        return None

    def _named(self, name: str, tenant: str) -> Iterable[Active]:
        found = {
            active.deployment.tenant: active for active in self._registry.active() if active.deployment.name == name
        }
        return (found[owner] for owner in (tenant, EVERYONE) if owner in found)

    def _compile(self) -> None:
        self._generation = self._registry.generation
        self._chains.clear()
        rules: defaultdict[Phase, list[_Rule]] = defaultdict(list)
        for active in self._registry.active():
            for bind in active.stable.version.manifest.bind:
                if bind.phase is not Phase.ROUTE:
                    rules[bind.phase].append(_Rule(Bound(active, bind)))
        self._phases = {phase: sorted(found, key=_Rule.place) for phase, found in rules.items()}


class _Rule:
    """A binding that can be matched."""

    def __init__(self, bound: Bound) -> None:
        owner, bind = bound.active.deployment.tenant, bound.bind
        self.bound = bound
        self._owner = None if owner == EVERYONE else owner
        self._tenants, self._models, self._tags = map(_patterns, (bind.tenants, bind.models, bind.tags))
        self._path = _patterns((bind.path,))

    def matches(self, tenant: str, model: str, path: str, tags: tuple[str, ...]) -> bool:
        """Whether the function runs for such a request; that of a tenant runs for no other's."""
        if self._owner is not None and self._owner != tenant:
            return False
        given = ((self._tenants, (tenant,)), (self._models, (model,)), (self._path, (path,)), (self._tags, tags))
        return all(patterns is None or _any(patterns, names) for patterns, names in given)

    def place(self) -> tuple[int, str, str]:
        """Where it stands in the order."""
        deployment = self.bound.active.deployment
        return self.bound.bind.order, deployment.name, deployment.tenant


def _patterns(names: tuple[str, ...]) -> tuple[Wildcard, ...] | None:
    """What `names` match; None where that is everything."""
    return None if not names or "*" in names else tuple(map(Wildcard, names))


def _any(patterns: tuple[Wildcard, ...], names: tuple[str, ...]) -> bool:
    return any(pattern.matches(name) for pattern in patterns for name in names)
