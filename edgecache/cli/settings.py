"""The configuration as a command sees it: the file it names, the process environment, its own options."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from edgecache.config import Loaded, load

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", envvar="EDGECACHE_CONFIG", help="The TOML file; see docs/config.md."
    ),
]


def read(file: Path | None, overrides: Mapping[str, Any] | None = None) -> Loaded:
    """Load the configuration; `overrides` are the command's options by dotted key. Raises ConfigError."""
    return load(file=file, environment=environment(), overrides=overrides or {})


def environment() -> Mapping[str, str]:
    """The environment of this process."""
    return os.environ  # noqa: TID251 - the one place that reads it
