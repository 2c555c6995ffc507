"""What a request's headers ask of the broker: the `EdgeCache-*` fields about routing. They can only tighten."""

import re
from collections.abc import Mapping

from edgecache.errors import BadRequest
from edgecache.types import ServiceClass, Wishes

HEADERS = ("EdgeCache-Class", "EdgeCache-Deadline", "EdgeCache-Residency", "EdgeCache-Hop")
_DECIMAL = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?")
_PLACE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MAX_PLACES = 32


def wishes(headers: Mapping[str, str], arrived: float) -> Wishes:
    """The wishes among `headers` of a request that came at `arrived` (monotonic seconds).

    Raises BadRequest, naming the header, for a value that cannot be read.
    """
    service, deadline, residency, hops = (headers.get(name, "").strip() for name in HEADERS)
    return Wishes(
        service=_service(service) if service else None,
        deadline=_deadline(deadline) if deadline else None,
        residency=_residency(residency) if residency else None,
        hops=_hops(hops) if hops else 0,
        arrived=arrived,
    )


def _service(text: str) -> ServiceClass:
    try:
        return ServiceClass(text.lower())
    except ValueError:
        raise _bad("EdgeCache-Class", f"use one of {', '.join(ServiceClass)}") from None


def _deadline(text: str) -> float:
    if _DECIMAL.fullmatch(text) is None or float(text) <= 0:
        raise _bad("EdgeCache-Deadline", "use a number of seconds, as in `2.5`")
    return float(text)


def _residency(text: str) -> frozenset[str]:
    places = [place.strip() for place in text.split(",")]
    if len(places) > _MAX_PLACES or not all(_PLACE.fullmatch(place) for place in places):
        raise _bad("EdgeCache-Residency", f"use at most {_MAX_PLACES} jurisdictions, as in `EU, CH`")
    return frozenset(places)


def _hops(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,2}", text) is None:
        raise _bad("EdgeCache-Hop", "use the number of POPs that have handed the request on")
    return int(text)


def _bad(header: str, advice: str) -> BadRequest:
    return BadRequest(f"The header `{header}` has a value that is not understood: {advice}.", param=header)
