"""`edgecache fn deploy|rollback|promote|split|delete`: what changes a function on a running POP. `fn` wires them."""

import base64
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from edgecache.cli import output
from edgecache.cli.admin import AdminAddress, Token
from edgecache.cli.fn_remote import HERE, Folder, Name, TenantId, remote
from edgecache.cli.fn_show import show
from edgecache.cli.settings import ConfigFile
from edgecache.errors import ConfigError, EdgeCacheError
from edgecache.functions import manifest as manifests
from edgecache.workshop import project, watching
from edgecache.workshop.project import Project

_PATIENCE = 600.0
"""Seconds that a POP may take to compile an upload."""

Message = Annotated[str, typer.Option("--message", "-m", metavar="TEXT", help="Why, for the history.")]


def deploy(
    config: ConfigFile = None,
    *,
    canary: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Only for this share of requests, as in 10%; then `promote`.")
    ] = None,
    message: Message = "",
    sign: Annotated[
        Path | None, typer.Option(metavar="KEYFILE", help="Ed25519 private key (PEM) to sign the upload with.")
    ] = None,
    folder: Folder = HERE,
    tenant: TenantId = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Upload the artefact as a new version and serve it: at once, or as a canary. No request is dropped."""
    found = project.find(folder)
    there = remote(config, admin, token, tenant, name=found.name, timeout=_PATIENCE)
    parts = upload(found, sign)
    if canary is not None:
        parts["canary"] = f"{percent(canary, '--canary') * 100:g}".encode()
    if message:
        parts["message"] = message.encode()
    for file in stale(found):
        output.fail(f"note: {file} is newer than {found.artefact}: `edgecache fn build`")
    there.name = ""
    show(there.admin.upload(there.path(), parts), as_json=as_json)


def rollback(
    version: Annotated[
        int | None, typer.Argument(metavar="[VERSION]", min=1, help="Which one; default: the one that served before.")
    ] = None,
    config: ConfigFile = None,
    *,
    message: Message = "",
    name: Name = None,
    folder: Folder = HERE,
    tenant: TenantId = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Go back to a version that is kept, and end a canary. No request is dropped."""
    there = remote(config, admin, token, tenant, folder=folder, name=name, timeout=_PATIENCE)
    show(there.post("rollback", body={"version": version, "message": message}), as_json=as_json)


def promote(
    config: ConfigFile = None,
    *,
    name: Name = None,
    folder: Folder = HERE,
    tenant: TenantId = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Let the canary serve every request."""
    show(remote(config, admin, token, tenant, folder=folder, name=name).post("promote", body={}), as_json=as_json)


def split(
    weight: Annotated[str, typer.Argument(metavar="PERCENT", help="Share of requests for the canary, as in 25%.")],
    config: ConfigFile = None,
    *,
    name: Name = None,
    folder: Folder = HERE,
    tenant: TenantId = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Change the canary's share. A request key stays with its version as far as the shares allow."""
    share = percent(weight, "PERCENT")
    there = remote(config, admin, token, tenant, folder=folder, name=name)
    show(there.post("split", body={"weight": share}), as_json=as_json)


def delete(
    config: ConfigFile = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    name: Name = None,
    folder: Folder = HERE,
    tenant: TenantId = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Remove a function from the POP: every version, its secrets and its key-value data."""
    there = remote(config, admin, token, tenant, folder=folder, name=name)
    if not yes:
        typer.confirm(f"Delete {there.name} with all versions, secrets and data?", abort=True)
    output.show(there.admin.delete(there.path()), as_json=as_json)


def upload(found: Project, key: Path | None = None) -> dict[str, bytes]:
    """The form of an upload: manifest, artefact, and the signature with `key`."""
    artefact = found.read()
    parts = {"manifest": manifests.canonical(found.manifest), "artefact": artefact}
    if key is not None:
        parts["signature"] = base64.b64encode(_signed(key, artefact, found))
    return parts


def _signed(file: Path, artefact: bytes, found: Project) -> bytes:
    from edgecache.functions import signature  # noqa: PLC0415 - cryptography, for signing only

    try:
        key = signature.private_key(file.read_bytes())
    except OSError as error:
        raise EdgeCacheError(f"{file}: {error.strerror}") from error
    except ConfigError as error:  # of the file, not of the configuration that 78 is for
        raise EdgeCacheError(f"{file}: {error.message}") from error
    return signature.sign(key, sha256(artefact).hexdigest(), found.manifest)


def percent(text: str, where: str) -> float:
    """`10%` or `10` as 0.1; raises BadParameter for what is no percentage."""
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise typer.BadParameter(f"{text!r} is no percentage from 0% to 100%", param_hint=where)
    return share


def stale(found: Project) -> tuple[Path, ...]:
    """Sources that were written after the artefact; none where nothing is built."""
    if not found.manifest.build.command:
        return ()
    made = found.artefact.stat().st_mtime_ns
    return tuple(file for file, (changed, _) in watching.look(found).items() if changed > made)
