"""From one TOML file, the environment and the command line to one frozen tree that knows where each value came from."""

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import msgspec

from edgecache.config import check, schema
from edgecache.config.layer import Layer, from_text, problem
from edgecache.config.origin import Path, dotted, error_line, line_of, lines
from edgecache.config.tree import Config
from edgecache.errors import ConfigError

PREFIX = "EDGECACHE__"
"""What the names of environment variables that are settings begin with; `__` separates sections."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A usable configuration.

    `origins` gives for every dotted key `default`, `file edgecache.toml:12`, `environment EDGECACHE__CACHE__TTL` or
    `command line`. `digest` changes with any value but not with the text of a secret.
    """

    config: Config
    origins: Mapping[str, str]
    digest: str


def load(*, file: FilePath | None, environment: Mapping[str, str], overrides: Mapping[str, Any]) -> Loaded:
    """Read the configuration: the command line wins over the environment, that over the file, that over defaults.

    Args:
        file: the TOML file; None where there is none.
        environment: the process environment; only names that begin with `EDGECACHE__` matter.
        overrides: values by dotted key, from the command line; None means not given.

    Raises:
        ConfigError: lists every problem found, one a line, each with its place.
    """
    layers = (_file_layer(file), _environment_layer(environment), _command_line_layer(overrides))
    _refuse(line for layer in layers for line in layer.problems)
    values: dict[Path, Any] = {}
    sources: dict[Path, str] = {}
    for layer in layers:
        replaced = {_root(path) for path in layer.values}
        values = {path: value for path, value in values.items() if _root(path) not in replaced} | layer.values
        sources |= layer.origins
    config = msgspec.convert(_nest(values), Config)
    flat = schema.flatten(config)
    named = {dotted(path): sources[path] for path in values}
    origins = {key: named.get(key, "default") for key in flat}
    _refuse(problem(_place(key, origins), key, message) for key, message in check.findings(config))
    return Loaded(config, origins, _digest(config))


def _refuse(problems: Iterator[str]) -> None:
    if found := list(problems):
        raise ConfigError("\n".join(found))


def _file_layer(file: FilePath | None) -> Layer:
    layer = Layer()
    if file is None:
        return layer
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8") from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason = str(error).partition(" (at ")[0]
        raise ConfigError(f"{file}:{error_line(error, text)}: not TOML: {reason}") from error
    places = lines(text)

    def origin(path: Path) -> str:
        line = line_of(places, path)
        return f"file {file}" if line is None else f"file {file}:{line}"

    layer.read(raw, origin)
    return layer


def _environment_layer(environment: Mapping[str, str]) -> Layer:
    layer = Layer()
    for name in sorted(environment):
        if name.startswith(PREFIX):
            path = tuple(name.removeprefix(PREFIX).lower().split("__"))
            _read_one(layer, path, from_text(path, environment[name]), f"environment {name}")
    return layer


def _command_line_layer(overrides: Mapping[str, Any]) -> Layer:
    layer = Layer()
    for key, value in overrides.items():
        if value is not None:
            _read_one(layer, tuple(key.split(".")), value, "command line")
    return layer


def _read_one(layer: Layer, path: Path, value: Any, origin: str) -> None:
    raw: Any = value
    for part in reversed(path):
        raw = {part: raw}
    layer.read(raw, lambda _: origin)


def _root(path: Path) -> Path:
    """The part of `path` that a higher layer replaces as a whole: an array of tables is never merged."""
    return next((path[:at] for at, part in enumerate(path) if isinstance(part, int)), path)


def _nest(values: Mapping[Path, Any]) -> Any:
    """The nested form of `values`: dicts, and lists where the next part is a position."""
    if () in values:
        return values[()]
    children: dict[str | int, dict[Path, Any]] = {}
    for path, value in values.items():
        children.setdefault(path[0], {})[path[1:]] = value
    if children and all(isinstance(part, int) for part in children):
        return [_nest(children[part]) for part in sorted(children)]
    return {part: _nest(child) for part, child in children.items()}


def _place(key: str, origins: Mapping[str, str]) -> str:
    """Where `key` was set; for an array of tables, where its first table was."""
    return origins.get(key) or next((each for name, each in origins.items() if name.startswith(f"{key}[")), "default")


def _digest(config: Config) -> str:
    return hashlib.sha256(msgspec.json.encode(schema.redacted(config))).hexdigest()[:12]
