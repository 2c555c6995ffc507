"""The configuration: one frozen tree, read once, from one TOML file, the environment and the command line."""

from edgecache.config.load import Loaded, load
from edgecache.config.tree import (
    Admin,
    Auth,
    AuthTenant,
    Cache,
    Config,
    Core,
    Embed,
    Limits,
    Log,
    Semantic,
    Server,
    Store,
    Upstream,
)

__all__ = [
    "Admin",
    "Auth",
    "AuthTenant",
    "Cache",
    "Config",
    "Core",
    "Embed",
    "Limits",
    "Loaded",
    "Log",
    "Semantic",
    "Server",
    "Store",
    "Upstream",
    "load",
]
