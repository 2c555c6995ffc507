"""`edgecache models`: the embedding models of the manifest, and whether their files are the pinned ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgecache.cli import output
from edgecache.errors import ConfigError

if TYPE_CHECKING:
    from edgecache.embed.manifest import Model

app = typer.Typer(no_args_is_help=True, help="The embedding models.")

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
            "dimension": model.dimension,
            "window": model.window,
            "licence": model.licence,
            "digest": model.digest[:12],
        }
        for model in manifest.read(manifest_file or manifest.default_path())
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

    known = manifest.read(manifest_file or manifest.default_path())
    chosen = [manifest.find(known, name) for name in names] if names else list(known)
    if path is not None and len(chosen) != 1:
        raise typer.BadParameter("--path goes with exactly one model")
    rows: list[dict[str, Any]] = []
    with output.progress("verifying") as step:
        for done, model in enumerate(chosen):
            step(done, len(chosen))
            rows.append(_verified(model, path))
    output.show(rows, as_json=as_json)
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)


def _verified(model: "Model", path: Path | None) -> dict[str, Any]:
    from edgecache.embed import manifest  # noqa: PLC0415 - see list_

    try:
        folder = manifest.locate(model, path)
        manifest.verify(model, folder)
    except ConfigError as error:
        return {"name": model.name, "ok": False, "detail": error.message}
    return {"name": model.name, "ok": True, "detail": str(folder)}
