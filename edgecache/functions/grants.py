"""What a function may do: what its manifest asks for, cut down to what the operator lets functions have. Pure.

Deny by default. A refusal says what to write into `function.toml`, or which setting of the POP is in the way. Where a
granted host may lead is another question: `upstream.network`.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from edgecache.config.tree import Functions
from edgecache.errors import FunctionRefused
from edgecache.functions.manifest import Manifest
from edgecache.upstream.target import Target, TargetRefused, parse
from edgecache.wasm.base import Limits
from edgecache.wasm.hostcalls import Code, HostRefused

_MIB = 1024 * 1024


class Origin(msgspec.Struct, frozen=True):
    """One entry of `allow.fetch`: a scheme, a host and a port; with `below`, all names below that host instead."""

    scheme: str
    host: str
    port: int
    below: bool

    def covers(self, target: Target) -> bool:
        """Whether `target` is granted by this entry."""
        if (self.scheme, self.port) != (target.scheme, target.port):
            return False
        if self.below:
            return target.address is None and target.host.endswith("." + self.host)
        return target.host == self.host


class Grants(msgspec.Struct, frozen=True):
    """What one version of a function may do, and how much of it in one call.

    `calls` and `bytes` are those of its host calls, `log` bytes of log lines. `fetching` is the operator's word.
    """

    limits: Limits
    calls: int
    bytes: int
    log: int
    kv: frozenset[str]
    variables: Mapping[str, str]
    secrets: frozenset[str]
    fetch: tuple[Origin, ...]
    fetching: bool
    llm: tuple[str, ...]
    cache: bool

    def store(self, name: str) -> None:
        """Raises HostRefused unless the key-value store `name` is granted."""
        if name not in self.kv:
            raise _denied(f"the store {_quoted(name)}", f"kv = [{_quoted(name)}]")

    def target(self, target: Target) -> None:
        """Raises HostRefused unless `target` may be fetched from, as far as names go."""
        if not any(origin.covers(target) for origin in self.fetch):
            raise _denied(f"fetching from {target.origin}", f"fetch = [{_quoted(target.origin)}]")
        if not self.fetching:
            raise HostRefused(Code.DENIED, "functions may not fetch on this POP: its `functions.fetch` is false")

    def model(self, name: str) -> None:
        """Raises HostRefused unless the model `name` is granted."""
        if not any(fnmatchcase(name, pattern) for pattern in self.llm):
            raise _denied(f"the model {_quoted(name)}", f"llm = [{_quoted(name)}]")

    def lookup(self) -> None:
        """Raises HostRefused unless answers may be looked up."""
        if not self.cache:
            raise _denied("looking answers up in the cache", "cache = true")

    def variable(self, name: str) -> str:
        """The value of the variable `name`; raises HostRefused."""
        if name in self.variables:
            return self.variables[name]
        raise _denied(f"the variable {_quoted(name)}", f"variables = [{_quoted(name)}] or secrets = [{_quoted(name)}]")


class Share(msgspec.Struct, frozen=True):
    """One line of what a function gets: what it asks for, the operator's ceiling (None = no such), what it has."""

    name: str
    asked: Any
    ceiling: Any
    granted: Any


def granted(manifest: Manifest, settings: Functions) -> Grants:
    """What `manifest` grants under `settings`; raises FunctionRefused for an entry that names nothing."""
    allow, quotas = manifest.allow, manifest.limits
    size = min(quotas.host_bytes, settings.max_host_bytes)
    return Grants(
        limits=Limits(
            cpu=min(quotas.cpu_ms / 1000, settings.max_cpu),
            wall=min(quotas.wall_ms / 1000, settings.max_wall),
            memory=min(quotas.memory_mb * _MIB, settings.max_memory),
            response=min(quotas.response_bytes, settings.max_response_bytes),
        ),
        calls=min(quotas.host_calls, settings.max_host_calls),
        bytes=size,
        log=min(quotas.log_bytes, size),
        kv=frozenset(allow.kv),
        variables={name: value for name, value in manifest.variables.items() if name in allow.variables},
        secrets=frozenset(allow.secrets),
        fetch=tuple(map(_origin, allow.fetch)),
        fetching=settings.fetch,
        llm=allow.llm,
        cache=allow.cache,
    )


def needs_waiting(manifest: Manifest) -> bool:
    """Whether a function may make a host call that waits for something: it never runs on the event loop then."""
    allow = manifest.allow
    return bool(allow.kv or allow.fetch or allow.llm or allow.cache)


def isolated(tenant: str, manifest: Manifest, settings: Functions) -> bool:
    """Whether a function runs in a worker process: the operator's word, for all or for its tenant, or its own wish."""
    return "process" in {settings.isolation, manifest.isolation} or tenant in settings.untrusted


def describe(manifest: Manifest, settings: Functions) -> tuple[Share, ...]:
    """What a function asks for beside what it gets, for `edgecache fn limits`; the names and units of the manifest."""
    asked, allow, grants = manifest.limits, manifest.allow, granted(manifest, settings)
    limits = grants.limits
    return (
        Share("cpu_ms", asked.cpu_ms, settings.max_cpu * 1000, limits.cpu * 1000),
        Share("wall_ms", asked.wall_ms, settings.max_wall * 1000, limits.wall * 1000),
        Share("memory_mb", asked.memory_mb, settings.max_memory / _MIB, limits.memory / _MIB),
        Share("host_calls", asked.host_calls, settings.max_host_calls, grants.calls),
        Share("host_bytes", asked.host_bytes, settings.max_host_bytes, grants.bytes),
        Share("response_bytes", asked.response_bytes, settings.max_response_bytes, limits.response),
        Share("log_bytes", asked.log_bytes, settings.max_host_bytes, grants.log),
        Share("kv", allow.kv, None, allow.kv),
        Share("variables", allow.variables, None, tuple(grants.variables)),
        Share("secrets", allow.secrets, None, allow.secrets),
        Share("fetch", allow.fetch, None if settings.fetch else (), allow.fetch if settings.fetch else ()),
        Share("llm", allow.llm, None, allow.llm),
        Share("cache", allow.cache, None, allow.cache),
    )


def _origin(entry: str) -> Origin:
    """The entry of `allow.fetch` that `entry` writes; raises FunctionRefused."""
    scheme, _, place = entry.partition("://")
    below = place.startswith("*.")
    try:
        target = parse(f"{scheme}://{place.removeprefix('*.')}")
    except TargetRefused as error:
        raise _bad(entry, str(error)) from error
    if set(place) & set("/?#"):
        raise _bad(entry, "it ends after host and port")
    if below and (target.address is not None or "." not in target.host):
        raise _bad(entry, "`*.` stands before a name of at least two labels")
    return Origin(target.scheme, target.host, target.port, below)


def _bad(entry: str, why: str) -> FunctionRefused:
    what = f"`$.allow.fetch` holds `scheme://host[:port]`, not {entry[:200]!r}: {why}"
    return FunctionRefused(f"function.toml: {what}", code="manifest")


def _denied(what: str, entry: str) -> HostRefused:
    return HostRefused(Code.DENIED, f"{what} is not granted: write {entry} under [allow] in function.toml")


def _quoted(name: str) -> str:
    return msgspec.json.encode(name[:200]).decode()
