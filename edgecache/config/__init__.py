"""The configuration: one frozen tree, read once, from one TOML file, the environment and the command line."""

from edgecache.config.load import Loaded, load
from edgecache.config.tree import (
    Admin,
    Admission,
    Auth,
    AuthTenant,
    Cache,
    Config,
    Core,
    Embed,
    HitPolicy,
    Learning,
    Limits,
    Log,
    ScopePolicy,
    Semantic,
    Server,
    Store,
    Upstream,
)

__all__ = [
    "Admin",
    "Admission",
    "Auth",
    "AuthTenant",
    "Cache",
    "Config",
    "Core",
    "Embed",
    "HitPolicy",
    "Learning",
    "Limits",
    "Loaded",
    "Log",
    "ScopePolicy",
    "Semantic",
    "Server",
    "Store",
    "Upstream",
    "load",
]
