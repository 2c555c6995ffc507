"""A function on its developer's machine: the folder with `function.toml`, and what else lies in it."""

from dataclasses import dataclass
from pathlib import Path

from edgecache.errors import EdgeCacheError, FunctionRefused
from edgecache.functions import manifest as manifests
from edgecache.functions.manifest import Manifest

MANIFEST = "function.toml"


@dataclass(frozen=True, slots=True)
class Project:
    """One function's folder, and what its `function.toml` says."""

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """What the function is called."""
        return self.manifest.name

    @property
    def artefact(self) -> Path:
        """The file that is uploaded."""
        return self.folder / self.manifest.build.artefact

    @property
    def cases(self) -> Path:
        """What the function must answer, a case a line."""
        return self.folder / "cases.jsonl"

    @property
    def state(self) -> Path:
        """What the tools keep here: machine code, recorded requests, the data of the POP of one's own."""
        return self.folder / ".edgecache"

    def read(self) -> bytes:
        """The artefact. Raises FunctionRefused where there is none."""
        try:
            return self.artefact.read_bytes()
        except FileNotFoundError:
            how = "build it with `edgecache fn build`" if self.manifest.build.command else "write it"
            raise FunctionRefused(f"{self.artefact}: no such file: {how}", code="artefact") from None
        except OSError as error:
            raise EdgeCacheError(f"{self.artefact}: {error.strerror}") from error


def find(folder: Path) -> Project:
    """The function in `folder`.

    Raises:
        FunctionRefused: there is no `function.toml`, or it is unsound.
    """
    file = folder / MANIFEST
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        how = "begin with `edgecache fn new NAME -t js`, or name its folder with --dir"
        raise FunctionRefused(f"{file}: no such file: {how}", code="manifest") from None
    except UnicodeDecodeError as error:
        raise FunctionRefused(f"{file}: is not UTF-8", code="manifest") from error
    except OSError as error:
        raise EdgeCacheError(f"{file}: {error.strerror}") from error
    return Project(folder, manifests.parse(text))
