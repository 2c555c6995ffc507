"""What a running POP can take from a changed configuration, and what has to wait for a restart."""

from typing import Any

import msgspec

from edgecache.config.tree import Config

NEEDS_RESTART = (
    "server.listen",
    "server.data",
    "admin.listen",
    "limits",
    "cache.semantic.enabled",
    "store",
    "embed",
    "functions",
    "core",
    "router.ledger",
    "router.discovery",
    "log.access",
)
"""Settings, or whole sections, that parts read once when they are built."""


def waiting(old: Config, new: Config) -> tuple[str, ...]:
    """Which of the changed settings take effect only after a restart."""
    return tuple(name for name in NEEDS_RESTART if _get(old, name) != _get(new, name))


def merge(old: Config, new: Config) -> Config:
    """`new`, with what needs a restart as it was in `old`."""
    for name in waiting(old, new):
        new = _set(new, name.split("."), _get(old, name))
    return new


def _get(tree: Any, name: str) -> Any:
    for part in name.split("."):
        tree = getattr(tree, part)
    return tree


def _set(tree: Any, path: list[str], value: Any) -> Any:
    first, *rest = path
    inner = _set(getattr(tree, first), rest, value) if rest else value
    return msgspec.structs.replace(tree, **{first: inner})
