"""Secrets of functions: written from outside, read by the sandbox alone, encrypted on disk, blotted out of logs.

AES-256-GCM under a key file of this POP; tenant, function and name are bound to the ciphertext, so that a row that was
moved or exchanged is not read. Without its key, or with another one, secrets cannot be read or added: whoever asks is
told so, and the POP goes on.
"""

import asyncio
import re
import secrets
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edgecache.clock import Clock
from edgecache.errors import BadRequest, ConfigError, StoreError
from edgecache.functions.manifest import SECRET_NAME
from edgecache.store.functions import FunctionStore, Table, Txn, decode, encode, name_key, owner_key
from edgecache.wasm.base import pack
from edgecache.wasm.vault import read_key

MAX_VALUE: Final = 16 * 1024
"""Bytes of the largest secret."""
MAX_SECRETS: Final = 64
"""Secrets of one function."""
_NAME: Final = re.compile(SECRET_NAME)
_NONCE_BYTES: Final = 12
_SHORTEST: Final = 4
"""Characters of the shortest value that is blotted out: shorter ones are in every text."""
_SHORTEST_LINE: Final = 8
"""The same for one line of a value that has several, as keys in PEM do."""
_KEY_ID: Final = b"secrets key"

_Owner = tuple[str, str]


class SecretInfo(msgspec.Struct, frozen=True):
    """What may be known of a secret: its name, and when it was last written (Unix s)."""

    name: str
    updated: float


class SecretsLocked(StoreError):
    """The key of the secrets is gone, altered, or readable by others; the message says which, and what to do."""


class _Row(msgspec.Struct, frozen=True, array_like=True):
    """A stored secret; `sealed` is nonce and ciphertext."""

    name: str
    updated: float
    sealed: bytes


class _Opened:
    """The values of one function, and what finds them in a text."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values
        self._names: dict[str, str] = {}
        for name, value in values.items():
            lines = [line.strip() for line in value.splitlines()] if "\n" in value else []
            for part in (value, *(line for line in lines if len(line) >= _SHORTEST_LINE)):
                if len(part) >= _SHORTEST:
                    self._names.setdefault(part, name)
        longest_first = sorted(self._names, key=len, reverse=True)
        self._found = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def redact(self, text: str) -> str:
        if self._found is None:
            return text
        return self._found.sub(lambda match: f"[secret {self._names[match[0]]}]", text)


class Secrets:
    """The secrets of all functions of a POP.

    `put`, `delete` and `drop` are durable when they return; `reveal` and `redact` may be called from any thread.
    """

    def __init__(self, store: FunctionStore, key: Path, *, clock: Clock) -> None:
        """Args: `key` is the key file, made with the first secret."""
        self._store = store
        self._path = key
        self._clock = clock
        self._lock = Lock()
        self._cipher: AESGCM | None = None
        self._opened: dict[_Owner, _Opened] = {}
        self._changes = 0

    # ------------------------------------------------------------------------------------------ from outside

    async def put(self, tenant: str, function: str, values: Mapping[str, str]) -> None:
        """Store secrets, all of them or none. Raises BadRequest, SecretsLocked, StoreError."""
        for name, value in values.items():
            _check(name, value)
        if values:
            await asyncio.to_thread(self._put, tenant, function, values)

    def list(self, tenant: str, function: str) -> list[SecretInfo]:
        """The names of a function's secrets, in order, and when each was written. Raises StoreError."""
        infos = (SecretInfo(row.name, row.updated) for row in self._rows(tenant, function))
        return sorted(infos, key=lambda info: info.name)

    async def delete(self, tenant: str, function: str, name: str) -> bool:
        """Remove a secret; False if there was none. Raises StoreError."""
        key = _key(tenant, function, name)

        def run() -> bool:
            gone = self._store.write(lambda txn: txn.delete(Table.SECRETS, key), frees=True)
            self._changed(tenant, function)
            return gone

        return await asyncio.to_thread(run)

    async def drop(self, tenant: str, function: str) -> None:
        """Remove all secrets of a function."""
        owner = owner_key(tenant, function)

        def run() -> None:
            self._store.write(lambda txn: txn.drop(Table.SECRETS, owner), frees=True)
            self._changed(tenant, function)

        await asyncio.to_thread(run)

    # ------------------------------------------------------------------------------------------ for the sandbox

    def reveal(self, tenant: str, function: str, name: str) -> str | None:
        """The value of a secret, for the function itself alone; None without one. Raises SecretsLocked, StoreError."""
        return self._values(tenant, function).values.get(name)

    def redact(self, tenant: str, function: str, text: str) -> str:
        """`text` with every secret of the function that is in it replaced by its name.

        To be called before a text is cut or escaped. Secrets that cannot be read now were not read by the function
        either: nothing is replaced then.
        """
        try:
            return self._values(tenant, function).redact(text)
        except StoreError:
            return text

    # ------------------------------------------------------------------------------------------ rows and key

    def _put(self, tenant: str, function: str, values: Mapping[str, str]) -> None:
        cipher, key_id = self._key()
        rows = {}
        for name, value in values.items():
            nonce = secrets.token_bytes(_NONCE_BYTES)
            sealed = nonce + cipher.encrypt(nonce, value.encode(), _bound(tenant, function, name))
            rows[_key(tenant, function, name)] = encode(_Row(name, self._clock.now(), sealed))
        owner = owner_key(tenant, function)

        def run(txn: Txn) -> int:
            count = len({key for key, _ in txn.items(Table.SECRETS, owner)} | rows.keys())
            if count <= MAX_SECRETS:
                txn.put(Table.META, _KEY_ID, key_id)
                for key, row in rows.items():
                    txn.put(Table.SECRETS, key, row)
            return count

        count = self._store.write(run)
        self._changed(tenant, function)
        if count > MAX_SECRETS:
            over = f"{count - MAX_SECRETS} too many"
            raise BadRequest(f"a function has at most {MAX_SECRETS} secrets; this would make {count}, {over}")

    def _rows(self, tenant: str, function: str) -> tuple[_Row, ...]:
        owner = owner_key(tenant, function)
        found = self._store.read(lambda txn: tuple(txn.items(Table.SECRETS, owner)))
        return tuple(decode(payload, _Row) for _, payload in found if payload is not None)

    def _values(self, tenant: str, function: str) -> _Opened:
        opened = self._opened.get((tenant, function))
        if opened is not None:
            return opened
        with self._lock:
            changes = self._changes
        rows = self._rows(tenant, function)
        opened = _Opened(self._decrypted(tenant, function, rows) if rows else {})
        with self._lock:
            if changes == self._changes:  # else it may be older than what was written meanwhile
                self._opened[tenant, function] = opened
        return opened

    def _decrypted(self, tenant: str, function: str, rows: tuple[_Row, ...]) -> dict[str, str]:
        cipher, _ = self._key()
        values = {}
        for row in rows:
            nonce, sealed = row.sealed[:_NONCE_BYTES], row.sealed[_NONCE_BYTES:]
            try:
                values[row.name] = cipher.decrypt(nonce, sealed, _bound(tenant, function, row.name)).decode()
            except (InvalidTag, ValueError) as error:
                raise SecretsLocked(f"the secret {row.name} of {function} was altered on disk: put it anew") from error
        return values

    def _changed(self, tenant: str, function: str) -> None:
        with self._lock:
            self._changes += 1
            self._opened.pop((tenant, function), None)

    def _key(self) -> tuple[AESGCM, bytes]:
        """The cipher, and what the store knows its key by."""
        with self._lock:
            known, count = self._store.read(
                lambda txn: (txn.get(Table.META, _KEY_ID), len(tuple(txn.items(Table.SECRETS))))
            )
            if known is not None and count and not self._path.exists():
                raise SecretsLocked(
                    f"{self._path}, the key of {count} secrets, is gone: restore it, or delete them all and put them "
                    "anew"
                )
            try:
                key = read_key(self._path)
            except ConfigError as error:
                raise SecretsLocked(f"secrets cannot be read: {error.message}") from error
            key_id = blake2b(key, digest_size=16, person=b"secrets key id").digest()
            if known is not None and count and known != key_id:
                raise SecretsLocked(
                    f"{self._path} is not the key that {count} secrets were written with: restore it, or delete them "
                    "all and put them anew"
                )
            return AESGCM(key), key_id


def _check(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        text = "a letter or _, then letters, digits and _, 64 characters at most"
        raise BadRequest(f"{name[:80]!r} is not the name of a secret: {text}", param="name")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise BadRequest(f"the secret {name} is not valid Unicode", param="value") from error
    if size > MAX_VALUE:
        over = f"{size - MAX_VALUE} too many"
        raise BadRequest(f"the secret {name} has {size} bytes, of at most {MAX_VALUE}: {over}", param="value")
    if not size:
        raise BadRequest(f"the secret {name} is empty", param="value")


def _key(tenant: str, function: str, name: str) -> bytes:
    return owner_key(tenant, function) + name_key(name)


def _bound(tenant: str, function: str, name: str) -> bytes:
    parts = (part.encode("utf-8", "surrogatepass") for part in (tenant, function, name))
    return pack(b"edgecache secret v1", *parts)
