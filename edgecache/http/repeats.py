"""Requests that were exact hits before, by their bytes: the short cut answers these without parsing them again.

Knowing a request is not knowing its answer: key and store are asked each time. A miss pays one dictionary lookup.
"""

import msgspec

from edgecache.http.auth import Authenticator
from edgecache.types import Call, Controls

_REMEMBERED = 2048
_LARGEST = 8192
"""Bytes of the largest body that is remembered: sixteen MiB in all."""
_NO_CONTROLS = Controls()


class Repeats:
    """Calls by path, credential and body. What an older `Authenticator` admitted is forgotten with it."""

    def __init__(self) -> None:
        self._auth: Authenticator | None = None
        self._calls: dict[tuple[str, str | None, bytes], Call] = {}

    def find(self, path: str, authorization: str | None, body: bytes, auth: Authenticator) -> Call | None:
        """The call that the same bytes made before."""
        return self._calls.get((path, authorization, body)) if auth is self._auth else None

    def learn(self, path: str, authorization: str | None, call: Call, auth: Authenticator) -> None:
        """`call` was an exact hit. Requests with controls of their own are left out: those are in headers.

        What else its headers said is forgotten: the next request has its own.
        """
        if call.controls != _NO_CONTROLS or len(call.raw) > _LARGEST:
            return
        if auth is not self._auth:
            self._calls.clear()
            self._auth = auth
        if len(self._calls) >= _REMEMBERED:
            del self._calls[next(iter(self._calls))]
        self._calls[path, authorization, call.raw] = msgspec.structs.replace(call, client={})
