"""What a request's headers ask of the cache: `Cache-Control` (RFC 9111, section 5.2.1) and the `EdgeCache-*` fields."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgecache.errors import BadRequest
from edgecache.types import Controls, Mode

if TYPE_CHECKING:
    from multidict import MultiMapping

MAX_TAGS = 32
"""Most tags one request may put on its answer."""

# token [ = ( quoted-string | anything up to the comma ) ]: a bad value must be seen to be refused.
_DIRECTIVE = re.compile(r"""([^\s,=";]+)(?:\s*=\s*("(?:[^"\\]|\\.)*"|[^,]*))?""")
_DELTA_SECONDS = re.compile(r"[0-9]{1,10}")
_DECIMAL = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,10})?")
_NAMESPACE = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
_TAG = re.compile(r"[!-~]{1,128}")  # as Surrogate-Key: any visible ASCII
_SEPARATORS = re.compile(r"[\s,]+")
_LARGEST = 9_999_999_999.0
_FLAGS = ("no_cache", "no_store", "only_if_cached", "immutable")
_AGES = ("max_age", "min_fresh", "max_stale")


def controls(headers: "MultiMapping[str]") -> Controls:
    """The cache controls among `headers`, which compares names in any case; repeated fields are joined.

    Directives that RFC 9111 does not define for requests are ignored, as it demands, except `immutable` (`Controls`
    says what for). Where one is repeated, the stricter value counts. Raises BadRequest, naming the header, for a value
    that cannot be read.
    """
    fields = _cache_control(_field(headers, "Cache-Control")) if "Cache-Control" in headers else {}
    for name, field, read in _FIELDS:
        if name in headers and (text := _field(headers, name).strip()):
            fields[field] = read(text)
    return Controls(**fields)


def _field(headers: "MultiMapping[str]", name: str) -> str:
    return ", ".join(headers.getall(name))


def headers(controls: Controls) -> dict[str, str]:
    """Header fields that say what `controls` does: what `controls()` reads from them is the same again."""
    words = [field.replace("_", "-") for field in _FLAGS if getattr(controls, field)]
    for field in _AGES:
        if (seconds := getattr(controls, field)) is not None:
            name = field.replace("_", "-")
            words.append(name if seconds == float("inf") else f"{name}={seconds:.0f}")
    said = {
        "Cache-Control": ", ".join(words),
        "EdgeCache-Mode": "" if controls.mode is Mode.DEFAULT else controls.mode.value,
        "EdgeCache-TTL": _decimal(controls.ttl),
        "EdgeCache-Threshold": _decimal(controls.threshold),
        "EdgeCache-Namespace": controls.namespace,
        "EdgeCache-Tags": ", ".join(controls.tags),
    }
    return {name: value for name, value in said.items() if value}


def _decimal(number: float | None) -> str:
    """`number` as `_DECIMAL` has it; numbers of so many digits are all read as the same."""
    return "" if number is None else f"{min(number, _LARGEST):.10f}".rstrip("0").rstrip(".")


def _cache_control(text: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in _told(text):
        if (field := name.replace("-", "_")) in _FLAGS:
            fields[field] = True
        elif name == "max-stale" and not value:
            fields.setdefault("max_stale", float("inf"))
        elif name in {"max-age", "max-stale", "min-fresh"}:
            stricter: Callable[[float, float], float] = max if name == "min-fresh" else min
            field, seconds = name.replace("-", "_"), _delta_seconds(name, value)
            fields[field] = stricter(seconds, fields.get(field, seconds))
    return fields


def _delta_seconds(directive: str, value: str) -> float:
    if _DELTA_SECONDS.fullmatch(value) is None:
        raise _bad("Cache-Control", f"`{directive}` takes a whole number of seconds, as in `{directive}=60`")
    return float(value)


def upstream_lifetime(headers: Mapping[str, str]) -> float | None:
    """For how many seconds an upstream lets a cache keep its answer: 0 = not at all, None = it does not say.

    `EdgeCache-CDN-Cache-Control` wins over `CDN-Cache-Control` (RFC 9213, section 2.2). Of the untargeted field only
    `no-store` and `private` count: model servers send `no-cache` to browsers with every answer.
    """
    named = {name: value for given, value in headers.items() if (name := given.lower()).endswith("cache-control")}
    if not named:
        return None
    for name in ("edgecache-cdn-cache-control", "cdn-cache-control"):
        if name in named:
            told = dict(_told(named[name]))
            if told.keys() & {"no-store", "private", "no-cache"}:
                return 0.0
            seconds = told.get("max-age", "")
            return float(seconds) if _DELTA_SECONDS.fullmatch(seconds) else None
    told = dict(_told(named.get("cache-control", "")))
    return 0.0 if told.keys() & {"no-store", "private"} else None


def _told(text: str) -> Iterator[tuple[str, str]]:
    for match in _DIRECTIVE.finditer(text):
        yield match[1].lower(), (match[2] or "").strip().strip('"')


def _mode(text: str) -> Mode:
    try:
        return Mode(text.lower())
    except ValueError:
        raise _bad("EdgeCache-Mode", f"use one of {', '.join(Mode)}") from None


def _ttl(text: str) -> float:
    if _DECIMAL.fullmatch(text) is None:
        raise _bad("EdgeCache-TTL", "use a number of seconds, as in `3600`")
    return float(text)


def _threshold(text: str) -> float:
    if _DECIMAL.fullmatch(text) is None or float(text) > 1:
        raise _bad("EdgeCache-Threshold", "use a similarity between 0 and 1, as in `0.97`")
    return float(text)


def _namespace(text: str) -> str:
    if _NAMESPACE.fullmatch(text) is None:
        raise _bad("EdgeCache-Namespace", "use 1 to 128 letters, digits and `._:/-`")
    return text


def _tags(text: str) -> tuple[str, ...]:
    tags = tuple(dict.fromkeys(tag for tag in _SEPARATORS.split(text) if tag))
    if len(tags) > MAX_TAGS or not all(_TAG.fullmatch(tag) for tag in tags):
        raise _bad("EdgeCache-Tags", f"use at most {MAX_TAGS} tags of visible ASCII, 128 characters each")
    return tags


def _bad(header: str, advice: str) -> BadRequest:
    return BadRequest(f"The header `{header}` has a value that is not understood: {advice}.", param=header)


_FIELDS: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
    ("EdgeCache-Mode", "mode", _mode),
    ("EdgeCache-TTL", "ttl", _ttl),
    ("EdgeCache-Threshold", "threshold", _threshold),
    ("EdgeCache-Namespace", "namespace", _namespace),
    ("EdgeCache-Tags", "tags", _tags),
)
HEADERS = ("Cache-Control", *(name for name, _, _ in _FIELDS))
"""What is read of a request."""
