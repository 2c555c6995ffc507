"""What the tree says about itself: every setting, its type in words, its JSON Schema, and which ones are secrets."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import inspect

from edgecache.config.origin import Path, dotted
from edgecache.config.tree import Config

SECRETS = frozenset(
    {
        ("admin", "token"),
        ("admin", "developer", "tokens"),
        ("auth", "tenant", "keys"),
        ("auth", "tenant", "key", "key"),
        ("auth", "peers"),
        ("upstream", "api_key"),
    }
)
"""Settings whose values are never shown, and which `NAME_file` may name a file for."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of the tree. `section` is set for a table, `many` if it is an array of such tables."""

    path: Path
    annotation: Any
    doc: str
    kind: str
    default: Any
    required: bool
    section: type[msgspec.Struct] | None = None
    many: bool = False

    @property
    def secret(self) -> bool:
        """Whether its value must not be shown."""
        return self.path in SECRETS


@functools.cache
def settings(section: type[msgspec.Struct] = Config, path: Path = ()) -> dict[str, Setting]:
    """The fields of `section` by name; `path` is where the section stands in the tree."""
    return {field.encode_name: _setting(field, path) for field in msgspec.structs.fields(section)}


def leaves(section: type[msgspec.Struct] = Config, path: Path = ()) -> Iterator[Setting]:
    """Every setting that holds a value, in the order of the tree; items of arrays of tables without an index."""
    for setting in settings(section, path).values():
        if setting.section is None:
            yield setting
        else:
            yield from leaves(setting.section, setting.path)


def _setting(field: msgspec.structs.FieldInfo, path: Path) -> Setting:
    info = inspect.type_info(field.type)
    doc = ""
    if isinstance(info, inspect.Metadata):
        doc = (info.extra_json_schema or {}).get("description", "")
        info = info.type
    item = info.item_type if isinstance(info, inspect.VarTupleType) else info
    default = field.default_factory() if callable(field.default_factory) else field.default
    return Setting(
        path=(*path, field.encode_name),
        annotation=field.type,
        doc=doc,
        kind=_words(info),
        default=default,
        required=field.required,
        section=item.cls if isinstance(item, inspect.StructType) else None,
        many=item is not info and isinstance(item, inspect.StructType),
    )


def _words(info: inspect.Type) -> str:  # noqa: PLR0911 - one return a kind of type is the table it looks like
    """What a value of the type must be, for error messages and the reference page."""
    match info:
        case inspect.Metadata():
            return _words(info.type)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() | inspect.FloatType():
            return ("whole number" if isinstance(info, inspect.IntType) else "number") + _bounds(info)
        case inspect.StrType():
            return f"string matching {info.pattern}" if info.pattern else "string"
        case inspect.LiteralType():
            return "one of " + ", ".join(str(value) for value in info.values)
        case inspect.EnumType():
            return "one of " + ", ".join(str(each.value) for each in info.cls)
        case inspect.UnionType():
            return " or ".join(_words(each) for each in info.types if not isinstance(each, inspect.NoneType))
        case inspect.VarTupleType(item_type=inspect.StructType()):
            return "array of tables"
        case inspect.VarTupleType():
            return f"array ({_words(info.item_type)})"
        case inspect.StructType():
            return "table"
    raise TypeError(f"{info} has no words yet")


def _bounds(info: inspect.IntType | inspect.FloatType) -> str:
    low = None if info.ge is None else f"{info.ge:g}"
    high = None if info.le is None else f"{info.le:g}"
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f", at least {low}" if low is not None else ""


def flatten(config: Config) -> dict[str, Any]:
    """Every value of `config` by dotted key, in the order of the tree. Secrets included: see `is_secret`."""
    return dict(_flatten(config, (), ()))


def _flatten(section: msgspec.Struct, path: Path, schema: Path) -> Iterator[tuple[str, Any]]:
    for name, setting in settings(type(section), schema).items():
        value = getattr(section, name)
        if setting.section is None or value == ():
            yield dotted((*path, name)), value
        elif setting.many:
            for index, item in enumerate(value):
                yield from _flatten(item, (*path, name, index), setting.path)
        else:
            yield from _flatten(value, (*path, name), setting.path)


def is_secret(key: str) -> bool:
    """Whether the value at the dotted `key` must not be shown."""
    return tuple(part.partition("[")[0] for part in key.split(".")) in SECRETS


def redacted(config: Config) -> dict[str, Any]:
    """`flatten`, with `(set)` in place of every secret that is set."""
    return {key: "(set)" if value and is_secret(key) else value for key, value in flatten(config).items()}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file: the tree, plus the `_file` form of each secret."""
    schema = msgspec.json.schema(Config)
    owners = {(): "Config"} | {setting.path: setting.section.__name__ for setting in _sections() if setting.section}
    for path in SECRETS:
        *section, name = path
        properties = schema["$defs"][owners[tuple(section)]]["properties"]
        properties[f"{name}_file"] = {"type": "string", "description": f"file that holds `{name}`"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "edgecache.toml"} | schema


def _sections(section: type[msgspec.Struct] = Config, path: Path = ()) -> Iterator[Setting]:
    for setting in settings(section, path).values():
        if setting.section is not None:
            yield setting
            yield from _sections(setting.section, setting.path)
