"""Which models there are, where their files come from, and whether they are the files they should be."""

import hashlib
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec

from edgecache.errors import ConfigError


class Package(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A PyPI package that carries the files. Only its files are used; its code is never imported."""

    name: str
    folder: str
    """Inside site-packages."""


class Hub(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A repository of the Hugging Face hub, at one commit."""

    repository: str
    revision: str


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model: what it is, what it may run in, and the digest of every file that is read."""

    name: str
    forward: Literal["bert", "sentence-transformers"]
    """`bert`: mean-pooled BERT, which has a fast forward of its own on CPU; else sentence-transformers runs it."""
    dimension: int
    window: int
    """Tokens, special ones included."""
    licence: str
    tolerance: Mapping[str, float]
    """For each precision the model may run in: largest error of a similarity against full precision."""
    sha256: Mapping[str, str]
    """Path in the model's folder → SHA-256 in hex."""
    package: Package | None = None
    hub: Hub | None = None

    @property
    def digest(self) -> str:
        """One digest over all pinned files."""
        lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(self.sha256.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    model: tuple[Model, ...]


def default_path() -> Path:
    """`models/manifest.toml` of the checkout, or where the wheel installs it."""
    checkout = Path(__file__).resolve().parents[2] / "models" / "manifest.toml"
    return checkout if checkout.is_file() else Path(sys.prefix) / "share" / "edgecache" / "models" / "manifest.toml"


def read(path: Path) -> tuple[Model, ...]:
    """The models of the manifest at `path`; raises ConfigError."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=_Manifest).model
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def find(models: tuple[Model, ...], name: str) -> Model:
    """The model called `name`; raises ConfigError that names those there are."""
    for model in models:
        if model.name == name:
            return model
    known = ", ".join(["hashing", *(model.name for model in models)])
    raise ConfigError(f"embed.model: no model `{name}` in the manifest; known: {known}")


def locate(model: Model, folder: Path | None = None) -> Path:
    """The folder with the model's files: `folder` if given, else the package, else the hub. Raises ConfigError."""
    if folder is not None:
        return folder
    if (packaged := _in_package(model.package)) is not None:
        return packaged
    if model.hub is not None:
        return _from_hub(model.hub, list(model.sha256))
    package = f"`pip install {model.package.name}` or " if model.package else ""
    raise ConfigError(f"no files of model `{model.name}`: {package}set embed.path")


def _in_package(package: Package | None) -> Path | None:
    if package is None:
        return None
    try:
        folder = Path(str(metadata.distribution(package.name).locate_file(package.folder)))
    except metadata.PackageNotFoundError:
        return None
    return folder if folder.is_dir() else None


def _from_hub(hub: Hub, files: list[str]) -> Path:
    import huggingface_hub  # noqa: PLC0415 - only where nothing is at hand
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    try:
        return Path(huggingface_hub.snapshot_download(hub.repository, revision=hub.revision, allow_patterns=files))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ConfigError(f"{hub.repository} at {hub.revision} cannot be fetched: {error}") from error


def verify(model: Model, folder: Path) -> None:
    """Check every pinned file in `folder`; raises ConfigError that names the first that is missing or altered."""
    for name, expected in model.sha256.items():
        try:
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ConfigError(f"model `{model.name}`: {folder / name}: {error.strerror}") from error
        if found != expected:
            raise ConfigError(
                f"model `{model.name}`: {folder / name} is not the pinned file: SHA-256 {found}, expected {expected}"
            )
