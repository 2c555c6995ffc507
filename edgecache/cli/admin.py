"""The admin API as commands use it: requests to one POP, errors as `EdgeCacheError`."""

import http.client
import json
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from edgecache.cli.settings import read
from edgecache.config import address
from edgecache.errors import ConfigError, EdgeCacheError

AdminAddress = Annotated[
    str | None, typer.Option("--admin", metavar="HOST:PORT", help="Admin address of the POP; default: admin.listen.")
]
Token = Annotated[str | None, typer.Option(metavar="TOKEN", help="Admin token; default: admin.token.")]


class Admin:
    """The admin API of one POP."""

    def __init__(self, place: address.Address, token: str | None, *, timeout: float | None = 60.0) -> None:
        """`timeout`: s of silence after which it is taken to be gone; None = never."""
        self._place = place
        self._headers = {"content-type": "application/json"}
        self._timeout = timeout
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """The JSON answer to `GET path`."""
        with self.open("GET", path + (f"?{urlencode(query)}" if query else "")) as response:
            return json.load(response)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Any:
        """The JSON answer to `POST path` with `body` as JSON, or as it is if it is bytes."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        with self.open("POST", path, raw, headers=headers) as response:
            return json.load(response)

    def put(self, path: str, body: Any) -> Any:
        """The JSON answer to `PUT path` with `body` as JSON, or as it is if it is bytes."""
        raw, kind = (body, "application/octet-stream") if isinstance(body, bytes) else (json.dumps(body).encode(), None)
        with self.open("PUT", path, raw, kind) as response:
            return json.load(response)

    def delete(self, path: str) -> Any:
        """The JSON answer to `DELETE path`."""
        with self.open("DELETE", path) as response:
            return json.load(response)

    def read(self, path: str) -> bytes:
        """The answer to `GET path` as it is."""
        with self.open("GET", path) as response:
            return response.read()

    def upload(self, path: str, parts: Mapping[str, bytes]) -> Any:
        """The JSON answer to `POST path` with `parts` as a form (RFC 7578)."""
        boundary = secrets.token_hex(16)
        form = b"".join(
            b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
            % (boundary.encode(), name.encode(), part)
            for name, part in parts.items()
        )
        closed = form + b"--%b--\r\n" % boundary.encode()
        with self.open("POST", path, closed, f"multipart/form-data; boundary={boundary}") as response:
            return json.load(response)

    def events(self, path: str) -> Iterator[Any]:
        """The data of server-sent events from `GET path`, each a JSON value, until the POP ends the stream."""
        with self.open("GET", path) as response:
            data = b""
            while line := response.readline():
                if line.startswith(b"data:"):
                    data += line[5:]
                elif not line.strip() and data:
                    yield json.loads(data)
                    data = b""

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request while the block runs; an iterator as body is sent in chunks. `kind`: its media type.

        Raises:
            EdgeCacheError: nobody answers there, or the answer is an error.
        """
        connection = http.client.HTTPConnection(
            self._place.host or "127.0.0.1", self._place.port, timeout=self._timeout
        )
        try:
            more = ({"content-type": kind} if kind else {}) | dict(headers or {})
            connection.request(method, path, body, self._headers | more)
            response = connection.getresponse()
            if response.status >= 400:
                raise EdgeCacheError(f"{path}: {_message(response)}")
            yield response
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
            where = f"{self._place.host or '127.0.0.1'}:{self._place.port}"
            raise EdgeCacheError(f"no answer from the admin API on {where}: {error}") from error
        finally:
            connection.close()


def _message(response: http.client.HTTPResponse) -> str:
    """What went wrong: the `detail` of a problem document (RFC 9457), else the status line."""
    raw = response.read()
    try:
        return str(json.loads(raw)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{response.status} {response.reason}"


def request_body(file: Path) -> bytes:
    """What stands in `file`; - is standard input."""
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise EdgeCacheError(f"{file}: {error.strerror}") from error


def connect(config: Path | None, place: str | None, token: str | None, *, timeout: float | None = 60.0) -> Admin:
    """The admin API at `place` with `token`, where the configuration does not say otherwise."""
    settings = read(config).config.admin
    try:
        found = address.parse(place or settings.listen)
    except ValueError as error:
        raise ConfigError(f"command line: --admin: {error}") from error
    everywhere = found.host in {"0.0.0.0", "::"}
    return Admin(address.Address("", found.port) if everywhere else found, token or settings.token, timeout=timeout)
