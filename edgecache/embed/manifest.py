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


class Pinned(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Something trained, with the digest of every file of it that is read."""

    name: str
    window: int
    """Tokens, special ones included."""
    licence: str
    sha256: Mapping[str, str]
    """Path in its folder → SHA-256 in hex."""

    @property
    def digest(self) -> str:
        """One digest over all pinned files."""
        lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(self.sha256.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


class Model(Pinned, frozen=True, kw_only=True):
    """One embedding model: what it is, and what it may run in."""

    forward: Literal["bert", "sentence-transformers"]
    """`bert`: mean-pooled BERT, which has a fast forward of its own on CPU; else sentence-transformers runs it."""
    dimension: int
    tolerance: Mapping[str, float]
    """For each precision the model may run in: largest error of a similarity against full precision."""
    package: Package | None = None
    hub: Hub | None = None


class PairVerifier(Pinned, frozen=True, kw_only=True):
    """The network that judges pairs of questions."""

    base: str
    """The embedding model that it was trained from."""
    folder: str
    """Where its files are, from the manifest's folder."""


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    model: tuple[Model, ...]
    verifier: PairVerifier | None = None


def default_path() -> Path:
    """`models/manifest.toml` of the checkout, or where the wheel installs it."""
    checkout = Path(__file__).resolve().parents[2] / "models" / "manifest.toml"
    return checkout if checkout.is_file() else Path(sys.prefix) / "share" / "edgecache" / "models" / "manifest.toml"


def read(path: Path) -> tuple[Model, ...]:
    """The embedding models of the manifest at `path`; raises ConfigError."""
    return _decode(path).model


def read_verifier(path: Path) -> PairVerifier:
    """The pair verifier of the manifest at `path`; raises ConfigError, also where it names none."""
    if (found := _decode(path).verifier) is None:
        raise ConfigError(f'{path}: no [verifier]; `embed.verifier = ""` goes without one')
    return found


def read_all(path: Path) -> tuple[Model | PairVerifier, ...]:
    """The embedding models of the manifest at `path` and, if it names one, the pair verifier; raises ConfigError."""
    found = _decode(path)
    return (*found.model, *((found.verifier,) if found.verifier else ()))


def _decode(path: Path) -> _Manifest:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=_Manifest)
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


def verify(model: Pinned, folder: Path) -> None:
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
