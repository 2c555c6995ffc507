"""What an operator wants to see at the start of a POP."""

from dataclasses import dataclass

from edgecache.config import Upstream


@dataclass(frozen=True, slots=True)
class Summary:
    """What a POP is made of, in words."""

    url: str
    admin_url: str
    data: str
    embedder: str
    device: str
    precision: str
    upstreams: tuple[Upstream, ...]
    core_url: str | None
    hits: str
    functions: str
    cache: str
    """Empty, or why this POP runs without a cache."""
