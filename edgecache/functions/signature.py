"""Ed25519 signatures of uploads: what is signed, by whom, and what the operator asks for.

Signed is a message of its own form over the artefact's SHA-256 and the canonical manifest, so that a signature over
anything else means nothing here, and neither of the two can be exchanged. A signature names no tenant and no POP.
"""

import base64
import binascii
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from edgecache.errors import ConfigError, FunctionRefused
from edgecache.functions.manifest import Manifest, canonical

_DOMAIN: Final = b"edgecache function signature v1\n"
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64


def message(artefact: str, manifest: Manifest) -> bytes:
    """What is signed for the artefact with that SHA-256 (hex) and `manifest`."""
    return _DOMAIN + artefact.encode("ascii") + b"\n" + canonical(manifest)


def sign(key: Ed25519PrivateKey, artefact: str, manifest: Manifest) -> bytes:
    """The signature (64 bytes) of an upload."""
    return key.sign(message(artefact, manifest))


def private_key(text: bytes) -> Ed25519PrivateKey:
    """The key in a file: PEM (PKCS 8, without a password), or its 32 bytes in base64. Raises ConfigError."""
    if text.lstrip().startswith(b"-----BEGIN"):
        try:
            key = load_pem_private_key(text, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"the signing key is not a PEM key without a password: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError("the signing key is of another kind than Ed25519 (openssl genpkey -algorithm ed25519)")
        return key
    return Ed25519PrivateKey.from_private_bytes(_decoded(text.strip(), "the signing key"))


def public_text(key: Ed25519PrivateKey) -> str:
    """The public key as `functions.trusted` takes it."""
    return base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def fingerprint(public: bytes) -> str:
    """The name of a public key (32 bytes): the beginning of its SHA-256."""
    return "ed25519:" + sha256(public).hexdigest()[:16]


def _decoded(text: bytes, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"{what} is not base64") from error
    if len(raw) != _KEY_BYTES:
        raise ConfigError(f"{what} has {len(raw)} bytes in base64; an Ed25519 key has {_KEY_BYTES}")
    return raw


class Signatures:
    """Whose uploads are taken: `functions.signatures` and `functions.trusted`."""

    def __init__(self, policy: Literal["off", "required"], trusted: Sequence[str]) -> None:
        """Raises ConfigError for a key that is none, and for a policy that nothing can meet."""
        self._required = policy == "required"
        self._trusted: dict[str, Ed25519PublicKey] = {}
        for index, text in enumerate(trusted):
            raw = _decoded(text.encode(), f"functions.trusted[{index}]")
            self._trusted[fingerprint(raw)] = Ed25519PublicKey.from_public_bytes(raw)
        if self._required and not self._trusted:
            raise ConfigError('functions.signatures is "required", and functions.trusted names no key')

    def verify(self, artefact: str, manifest: Manifest, signature: bytes | None) -> str:
        """The fingerprint of the key that signed; empty for an upload without signature where none is required.

        Where keys are trusted, a signature that is given must be good even if none is required; where none are, nothing
        can be said of it. Raises FunctionRefused (`signature_missing`, `signature_invalid`).
        """
        if signature is None or not self._trusted:
            if self._required:
                raise FunctionRefused(
                    f"this POP takes signed uploads only (functions.signatures); {self._keys()}",
                    code="signature_missing",
                )
            return ""
        if len(signature) != _SIGNATURE_BYTES:
            text = f"an Ed25519 signature has {_SIGNATURE_BYTES} bytes, not {len(signature)}"
            raise FunctionRefused(text, code="signature_invalid")
        signed = message(artefact, manifest)
        for name, key in self._trusted.items():
            try:
                key.verify(signature, signed)
            except InvalidSignature:
                continue
            return name
        text = "the signature fits this artefact and manifest under no trusted key"
        raise FunctionRefused(f"{text}; {self._keys()}", code="signature_invalid")

    def _keys(self) -> str:
        return "trusted: " + ", ".join(self._trusted)
