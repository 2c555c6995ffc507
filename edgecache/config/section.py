"""What every section of the configuration is made of: its base, and the numbers that settings take."""

from typing import Annotated

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Bytes = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(gt=0, lt=1)]
Amount = Annotated[float, Meta(ge=0)]
Whole = Annotated[int, Meta(ge=0)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every section: immutable, unknown keys refused."""


def doc(text: str) -> Meta:
    """What a setting means, for `docs/config.md` and the JSON Schema."""
    return Meta(description=text)
