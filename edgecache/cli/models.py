"""`edgecache models`: the embedding models and the pair verifier, and whether their files are the pinned ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgecache.cli import output
from edgecache.errors import ConfigError

if TYPE_CHECKING:
    from edgecache.embed.manifest import Model, PairVerifier

app = typer.Typer(no_args_is_help=True, help="The embedding models and the pair verifier.")

ManifestFile = Annotated[
    Path | None, typer.Option("--manifest", metavar="FILE", help="Another manifest than models/manifest.toml.")
]


@app.command("list")
def list_(manifest_file: ManifestFile = None, *, as_json: output.AsJson = False) -> None:
    """List the models, with dimension, window in tokens, licence and digest."""
    from edgecache.embed import manifest  # noqa: PLC0415 - the package brings numpy

    rows = [
        {
            "name": model.name,
            "dimension": getattr(model, "dimension", None),
            "window": model.window,
            "licence": model.licence,
            "digest": model.digest[:12],
        }
        for model in manifest.read_all(manifest_file or manifest.default_path())
    ]
    output.show(rows, as_json=as_json)


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: all.")] = None,
    *,
    path: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder with the files of the one model.")] = None,
    manifest_file: ManifestFile = None,
    as_json: output.AsJson = False,
) -> None:
    """Compare the files of each model with the digests of the manifest. Exits with 1 if any differs or is missing."""
    from edgecache.embed import manifest  # noqa: PLC0415 - see list_

    file = manifest_file or manifest.default_path()
    known = {model.name: model for model in manifest.read_all(file)}
    if unknown := [name for name in names or () if name not in known]:
        raise ConfigError(f"no model `{unknown[0]}` in {file}; known: {', '.join(known)}")
    chosen = [known[name] for name in names or known]
    if path is not None and len(chosen) != 1:
        raise typer.BadParameter("--path goes with exactly one model")
    rows: list[dict[str, Any]] = []
    with output.progress("verifying") as step:
        for done, model in enumerate(chosen):
            step(done, len(chosen))
            rows.append(_verified(model, path, file))
    output.show(rows, as_json=as_json)
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)


def _verified(model: "Model | PairVerifier", path: Path | None, file: Path) -> dict[str, Any]:
    from edgecache.embed import manifest  # noqa: PLC0415 - see list_

    try:
        if isinstance(model, manifest.PairVerifier):
            folder = path or file.parent / model.folder
        else:
            folder = manifest.locate(model, path)
        manifest.verify(model, folder)
    except ConfigError as error:
        return {"name": model.name, "ok": False, "detail": error.message}
    return {"name": model.name, "ok": True, "detail": str(folder)}
