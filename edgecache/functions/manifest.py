"""`function.toml`: what a function is called, when it runs, what it may take and do. Pure.

Everything that is not granted here is denied, and what is granted may be less than asked for: `config.Functions` is the
operator's ceiling.
"""

import re
import tomllib
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgecache.errors import FunctionRefused
from edgecache.upstream.target import TargetRefused
from edgecache.upstream.target import parse as parse_url

NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z"
"""A DNS label: names become paths and metric labels. Not `$`, which lets a line break stand at the end."""
VARIABLE = r"^[a-z][a-z0-9_]{0,63}\Z"
SECRET_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,63}\Z"  # noqa: S105 - the form of a name
STORE = r"^[a-z0-9][a-z0-9_-]{0,63}\Z"
_LARGEST = 64 * 1024
"""Bytes of the largest manifest."""
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What no name or description holds: it would act on terminals and forge lines."""
_PATH = re.compile(r"\*|/[A-Za-z0-9._~!$&'()+,;=:@%/*-]*")
_DOTS = re.compile(r"(^|/)(\.|%2e){1,2}(/|$)", re.IGNORECASE)


class Phase(StrEnum):
    """When a function runs; the value of `x-edgecache-phase`."""

    REQUEST = "request"
    """Before the cache is asked; the body is the client's request."""
    KEY = "key"
    """While the cache key is made; the answer's `x-edgecache-key` divides it further."""
    HIT = "hit"
    """An answer came from the cache; it is the body."""
    MISS = "miss"
    """Nothing in the cache fits; the body is the request about to go upstream."""
    RESPONSE = "response"
    """A fresh answer is about to go to the client; it is the body."""
    ROUTE = "route"
    """Plain HTTP under `/fn/NAME/`; the body is the client's."""


_Names = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=128)], ...], Meta(max_length=64)]
"""Names of tenants, models and the like."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Base of every table: immutable, unknown keys refused."""


class Bind(_Table, frozen=True):
    """When and for which requests a function runs. Empty lists match everything; names and `path` may hold `*`.

    `order`: smaller runs first. `stream`: for streamed answers, `whole` hands over the complete answer as JSON, `chunk`
    one server-sent event after the other. `path`: for `route` the path below `/fn/NAME`, else that of the endpoint.
    """

    phase: Phase
    tenants: _Names = ()
    models: _Names = ()
    tags: _Names = ()
    path: Annotated[str, Meta(max_length=256)] = "*"
    order: Annotated[int, Meta(ge=-10_000, le=10_000)] = 100
    stream: Literal["whole", "chunk"] = "whole"


class Quotas(_Table, frozen=True):
    """What one call may take: ms of `cpu` in the sandbox, of `wall` time, MiB of memory, host calls and their bytes."""

    cpu_ms: Annotated[int, Meta(ge=1, le=600_000)] = 50
    wall_ms: Annotated[int, Meta(ge=1, le=600_000)] = 1000
    memory_mb: Annotated[int, Meta(ge=1, le=4096)] = 64
    host_calls: Annotated[int, Meta(ge=0, le=10**9)] = 100
    host_bytes: Annotated[int, Meta(ge=0, le=2**40)] = 4 * 1024 * 1024
    response_bytes: Annotated[int, Meta(ge=1, le=2**40)] = 1024 * 1024
    log_bytes: Annotated[int, Meta(ge=0, le=2**40)] = 16 * 1024


class Allow(_Table, frozen=True):
    """What a function may ask of its host; nothing by default.

    `kv`: names of its stores. `variables` and `secrets`: names that it may read. `fetch`: `scheme://host[:port]`, the
    host exact or `*.example.com`. `llm`: models, `*` for all of the tenant's. `cache`: look answers up.
    """

    kv: Annotated[tuple[Annotated[str, Meta(pattern=STORE)], ...], Meta(max_length=16)] = ()
    variables: Annotated[tuple[Annotated[str, Meta(pattern=VARIABLE)], ...], Meta(max_length=64)] = ()
    secrets: Annotated[tuple[Annotated[str, Meta(pattern=SECRET_NAME)], ...], Meta(max_length=64)] = ()
    fetch: Annotated[tuple[Annotated[str, Meta(max_length=300)], ...], Meta(max_length=64)] = ()
    llm: _Names = ()
    cache: bool = False


class Build(_Table, frozen=True):
    """How the artefact is made; read by `edgecache fn` on the developer's machine only."""

    command: str = ""
    artefact: str = "function.wasm"
    watch: tuple[str, ...] = ()


class Manifest(_Table, frozen=True):
    """The whole of `function.toml`.

    `on_error` says what becomes of a request when the function fails: `pass_through` goes on as if it had not run,
    `fail` answers 502, `miss` goes upstream (only where an answer came from the cache, else as `pass_through`).
    """

    name: Annotated[str, Meta(pattern=NAME)]
    description: Annotated[str, Meta(max_length=500)] = ""
    bind: Annotated[tuple[Bind, ...], Meta(max_length=32)] = ()
    limits: Quotas = Quotas()
    allow: Allow = Allow()
    variables: Annotated[
        dict[Annotated[str, Meta(pattern=VARIABLE)], Annotated[str, Meta(max_length=4096)]], Meta(max_length=64)
    ] = {}
    on_error: Literal["pass_through", "fail", "miss"] = "pass_through"
    isolation: Literal["thread", "process"] = "thread"
    build: Build = Build()


def parse(text: str) -> Manifest:
    """The manifest that a `function.toml` holds; raises FunctionRefused with key and reason."""
    if (size := len(text.encode("utf-8", "surrogatepass"))) > _LARGEST:
        raise _too_large(size)
    try:
        values: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FunctionRefused(f"function.toml: {error}", code="manifest") from error
    return convert(values)


def convert(values: Any) -> Manifest:
    """The manifest in decoded TOML or JSON; raises FunctionRefused with key and reason."""
    try:
        manifest = msgspec.convert(values, Manifest)
    except msgspec.ValidationError as error:
        raise FunctionRefused(f"function.toml: {error}", code="manifest") from error
    check(manifest)
    return manifest


def check(manifest: Manifest) -> None:
    """Raise FunctionRefused for what types cannot say: entries that are each valid and make no sense."""
    try:
        size = len(canonical(manifest))
    except (UnicodeEncodeError, ValueError) as error:
        raise FunctionRefused("function.toml: it is not valid Unicode throughout", code="manifest") from error
    if size > _LARGEST:
        raise _too_large(size)
    for key, what in _findings(manifest):
        raise FunctionRefused(f"function.toml: {what} - at `$.{key}`", code="manifest")


def canonical(manifest: Manifest) -> bytes:
    """The one JSON form of `manifest`: what is signed and hashed.

    Keys are sorted. What is as it would be anyway is left out, written down or not, and so is `build`, which stays
    at home.
    """
    return msgspec.json.encode(_plain(msgspec.structs.replace(manifest, build=Build())), order="deterministic")


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        said = ((field, getattr(value, field.name)) for field in msgspec.structs.fields(value))
        return {field.name: _plain(each) for field, each in said if each != _default(field)}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _too_large(size: int) -> FunctionRefused:
    text = f"function.toml has {size} bytes, of at most {_LARGEST}: {size - _LARGEST} too many"
    return FunctionRefused(text, code="manifest")


_Finding = tuple[str, str]
"""A key, and what is wrong with it."""


def _findings(manifest: Manifest) -> Iterator[_Finding]:
    if re.fullmatch(NAME, manifest.name) is None:
        yield "name", f"{manifest.name[:80]!r} is not made of lower-case letters, digits and inner hyphens, 63 at most"
    if _UNSEEN.search(manifest.description.replace("\n", "")):
        yield "description", "control characters"
    for index, bind in enumerate(manifest.bind):
        for key, what in _bind(bind):
            yield f"bind[{index}].{key}", what
        if bind in manifest.bind[:index]:
            yield f"bind[{index}]", f"the same as bind[{manifest.bind.index(bind)}]: the function would run twice"
    yield from _allow(manifest)


def _bind(bind: Bind) -> Iterator[_Finding]:
    for key in ("tenants", "models", "tags"):
        yield from _names(key, getattr(bind, key))
    if _PATH.fullmatch(bind.path) is None:
        yield "path", f"{bind.path[:80]!r} is neither `*` nor a path that begins with `/`, without query and blanks"
    elif _DOTS.search(bind.path) or "//" in bind.path:
        yield "path", f"{bind.path[:80]!r} holds `.`, `..` or nothing between two slashes: no request has such a path"
    if bind.stream == "chunk" and bind.phase not in (Phase.HIT, Phase.RESPONSE):
        yield "stream", f"`chunk` is for answers (hit, response): in the phase {bind.phase} nothing is streamed"


def _allow(manifest: Manifest) -> Iterator[_Finding]:
    allow = manifest.allow
    for key in ("kv", "variables", "secrets", "fetch", "llm"):
        yield from ((f"allow.{place}", what) for place, what in _names(key, getattr(allow, key)))
    for index, name in enumerate(allow.variables):
        if name not in manifest.variables:
            yield f"allow.variables[{index}]", f"{name!r} has no value in [variables]"
        if name in allow.secrets:
            yield f"allow.variables[{index}]", f"{name!r} is both a variable and a secret"
    for index, entry in enumerate(allow.fetch):
        if why := _unreachable(entry):
            yield f"allow.fetch[{index}]", f"{entry[:80]!r} is not `scheme://host[:port]`: {why}"


def _names(key: str, names: tuple[str, ...]) -> Iterator[_Finding]:
    for index, name in enumerate(names):
        if _UNSEEN.search(name) or name != name.strip():
            yield f"{key}[{index}]", f"{name[:80]!r} has control characters, or blanks at its ends"
        if name in names[:index]:
            yield f"{key}[{index}]", f"{name[:80]!r} is there twice"


def _unreachable(entry: str) -> str:
    """What is wrong with an entry of `allow.fetch`; empty if nothing is."""
    scheme, slashes, place = entry.partition("://")
    host = place.removeprefix("*.")
    if scheme not in ("http", "https") or not slashes:
        return "it begins with http:// or https://"
    if set(place) & set("/?#"):
        return "it ends after host and port"
    if "*" in host:
        return "`*` stands only before a whole host name, as in https://*.example.com"
    try:
        target = parse_url(f"{scheme}://{host}")
    except TargetRefused as error:
        return str(error)
    if host != place and (target.address is not None or "." not in target.host):
        return "`*.` stands before a name of at least two labels"
    return ""
