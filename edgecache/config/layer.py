"""One source of settings, read against the tree: what it sets, from where, and everything that is wrong with it."""

import difflib
import math
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any

import msgspec

from edgecache.config import schema
from edgecache.config.origin import Path, dotted
from edgecache.config.schema import Setting
from edgecache.config.tree import Config


class Layer:
    """What one source sets: `values` and `origins` by path, and `problems`, a line each."""

    def __init__(self) -> None:
        self.values: dict[Path, Any] = {}
        self.origins: dict[Path, str] = {}
        self.problems: list[str] = []

    def read(self, raw: Mapping[str, Any], origin: Callable[[Path], str]) -> None:
        """Take over `raw`, a nested mapping as TOML gives it; `origin` says where a path was set."""
        self._section(Config, (), (), raw, origin)

    def _section(
        self,
        section: type[msgspec.Struct],
        at: Path,
        path: Path,
        raw: Mapping[str, Any],
        origin: Callable[[Path], str],
    ) -> None:
        """`path` is where the section stands in `raw`, `at` the same without positions in arrays."""
        known = schema.settings(section, at)
        for name, value in raw.items():
            here = (*path, name)
            setting = known.get(name)
            if setting is not None:
                self._value(setting, here, value, origin)
            elif (secret := known.get(name.removesuffix("_file"))) is not None and secret.secret:
                self._secret(secret, (*path, secret.path[-1]), value, origin(here))
            else:
                self._wrong(origin(here), here, "unknown key" + _hint(name, known))
        for name, setting in known.items():
            if setting.required and not {name, f"{name}_file"} & raw.keys():
                self._wrong(origin(path), path, f"{name} is missing")

    def _value(self, setting: Setting, path: Path, value: Any, origin: Callable[[Path], str]) -> None:
        if setting.section is None:
            self._leaf(setting, path, value, origin(path))
        elif setting.many:
            self._tables(setting.section, setting.path, path, value, origin)
        elif isinstance(value, Mapping):
            self._section(setting.section, setting.path, path, value, origin)
        else:
            self._wrong(origin(path), path, f"expected a table, got {_show(value)}")

    def _tables(
        self,
        section: type[msgspec.Struct],
        at: Path,
        path: Path,
        value: Any,
        origin: Callable[[Path], str],
    ) -> None:
        if not isinstance(value, list | tuple) or not all(isinstance(item, Mapping) for item in value):
            self._wrong(origin(path), path, f"expected tables, each under [[{dotted(at)}]]")
        elif not value:
            self._set(path, (), origin(path))
        else:
            for index, item in enumerate(value):
                self._section(section, at, (*path, index), item, origin)

    def _leaf(self, setting: Setting, path: Path, value: Any, origin: str) -> None:
        got = "" if setting.secret else f", got {_show(value)}"
        try:
            converted = msgspec.convert(value, setting.annotation)
        except msgspec.ValidationError:
            self._wrong(origin, path, f"expected {_article(setting.kind)}{got}")
            return
        if isinstance(converted, float) and not math.isfinite(converted):
            self._wrong(origin, path, f"expected a finite number{got}")
            return
        self._set(path, converted, origin)

    def _secret(self, setting: Setting, path: Path, file: Any, origin: str) -> None:
        """Read a secret from the file that `NAME_file` names; where several values are wanted, one a line."""
        named = (*path[:-1], f"{path[-1]}_file")
        if not isinstance(file, str):
            self._wrong(origin, named, f"expected the path of a file, got {_show(file)}")
            return
        try:
            text = FilePath(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self._wrong(origin, named, f"cannot read {file}: {getattr(error, 'strerror', None) or 'not UTF-8'}")
            return
        if setting.kind.startswith("array"):
            self._leaf(setting, path, [line.strip() for line in text.splitlines() if line.strip()], origin)
        elif text:
            self._leaf(setting, path, text, origin)
        else:
            self._wrong(origin, named, f"{file} is empty")

    def _set(self, path: Path, value: Any, origin: str) -> None:
        if path in self.values:
            self._wrong(origin, path, f"is set twice, also by {self.origins[path]}")
        self.values[path] = value
        self.origins[path] = origin

    def _wrong(self, origin: str, path: Path, message: str) -> None:
        self.problems.append(problem(origin, dotted(path), message))


def problem(origin: str, key: str, message: str) -> str:
    """One line that says where, which key and what is wrong."""
    where = "" if origin == "default" else origin.removeprefix("file ") + ": "
    return f"{where}{key}: {message}" if key else f"{where}{message}"


def from_text(path: Path, text: str) -> Any:
    """The value that an environment variable gives to `path`: TOML where the setting is not a string.

    A text that is not TOML is returned as it is; reading it then says what was expected.
    """
    section: type[msgspec.Struct] | None = Config
    at: Path = ()
    setting: Setting | None = None
    for part in path:
        setting = schema.settings(section, at).get(str(part)) if section else None
        if setting is None:
            return text
        section, at = setting.section, setting.path
    if setting is None or setting.kind.startswith(("string", "one of")):
        return text
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if document.keys() == {"value"} else text


def _hint(name: str, known: Mapping[str, Setting]) -> str:
    """What was probably meant: a similar key of the same section, else the same key of another one."""
    close = difflib.get_close_matches(name, known, n=1)
    if not close:
        close = [dotted(leaf.path) for leaf in schema.leaves() if leaf.path[-1] == name][:1]
    return f" (did you mean '{close[0]}'?)" if close else ""


def _article(kind: str) -> str:
    return kind if kind.startswith(("true", "one of")) else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
