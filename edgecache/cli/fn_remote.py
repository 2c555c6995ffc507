"""One function on a running POP, as the commands of `edgecache fn` reach it: whose, which, and its admin paths."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from edgecache.cli.admin import Admin, connect
from edgecache.workshop import project

_ROOT = "/admin/v1/functions"

Folder = Annotated[Path, typer.Option("--dir", metavar="DIR", help="The function's folder, with function.toml.")]
HERE = Path()
Name = Annotated[
    str | None, typer.Option("--name", "-n", metavar="NAME", help="The function; default: that of function.toml.")
]
TenantId = Annotated[
    str | None,
    typer.Option("--tenant", metavar="ID", help="Whose function; default: the token's tenant, or `default`."),
]


Query = Mapping[str, str | list[str] | None] | None
"""Values by name; None = not given."""


class Remote:
    """The functions of one tenant on one POP; with a name, one of them."""

    def __init__(self, admin: Admin, tenant: str | None, name: str = "") -> None:
        self.admin = admin
        self.name = name
        self._tenant = tenant

    def path(self, *parts: str, query: Query = None) -> str:
        """The path to `parts` of this function, or of all of them where no name was given."""
        named = (self.name, *parts) if self.name else parts
        place = "/".join([_ROOT, *(quote(part, safe="") for part in named)])
        asked = {"tenant": self._tenant, **(query or {})}
        given = {key: value for key, value in asked.items() if value is not None}
        return place + (f"?{urlencode(given, doseq=True)}" if given else "")

    def get(self, *parts: str, query: Query = None) -> Any:
        """The JSON answer to GET."""
        return self.admin.get(self.path(*parts, query=query))

    def post(self, *parts: str, body: Any) -> Any:
        """The JSON answer to POST."""
        return self.admin.post(self.path(*parts), body)


def remote(
    config: Path | None,
    place: str | None,
    token: str | None,
    tenant: str | None,
    *,
    folder: Path = HERE,
    name: str | None = None,
    timeout: float | None = 60.0,
) -> Remote:
    """The function called `name`, else the one whose `function.toml` lies in `folder`, on the POP at `place`."""
    found = name or project.find(folder).name
    return Remote(connect(config, place, token, timeout=timeout), tenant, found)
