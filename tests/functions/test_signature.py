import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from edgecache.errors import ConfigError, FunctionRefused
from edgecache.functions.manifest import Manifest
from edgecache.functions.signature import Signatures, fingerprint, message, private_key, public_text, sign
from edgecache.functions.versions import artefact_digest

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
ARTEFACT, MANIFEST = artefact_digest(b"code"), Manifest(name="f")
GOOD = sign(KEY, ARTEFACT, MANIFEST)


def refused(signatures: Signatures, *upload: Any) -> tuple[str | None, str]:
    with pytest.raises(FunctionRefused) as caught:
        signatures.verify(*upload)
    return caught.value.code, caught.value.message


def pem(key: Any, encryption: Any = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def name_of(key: Ed25519PrivateKey) -> str:
    return fingerprint(base64.b64decode(public_text(key)))


def test_a_good_signature_names_its_key() -> None:
    signatures = Signatures("required", (public_text(OTHER), public_text(KEY)))
    assert signatures.verify(ARTEFACT, MANIFEST, GOOD) == name_of(KEY)


def test_an_upload_without_signature_is_refused_where_one_is_required() -> None:
    code, text = refused(Signatures("required", (public_text(KEY),)), ARTEFACT, MANIFEST, None)
    assert code == "signature_missing"
    assert name_of(KEY) in text
    assert Signatures("off", (public_text(KEY),)).verify(ARTEFACT, MANIFEST, None) == ""
    assert Signatures("off", ()).verify(ARTEFACT, MANIFEST, None) == ""


@pytest.mark.parametrize("policy", ["off", "required"])
@pytest.mark.parametrize(
    ("artefact", "manifest", "signature"),
    [
        (artefact_digest(b"other"), MANIFEST, GOOD),
        (ARTEFACT, Manifest(name="g"), GOOD),
        (ARTEFACT, Manifest(name="f", on_error="fail"), GOOD),
        (ARTEFACT, MANIFEST, GOOD[:-1]),
        (ARTEFACT, MANIFEST, GOOD + b"\0"),
        (ARTEFACT, MANIFEST, b""),
        (ARTEFACT, MANIFEST, bytes(64)),
        (ARTEFACT, MANIFEST, sign(OTHER, ARTEFACT, MANIFEST)),
        (ARTEFACT, MANIFEST, KEY.sign(bytes.fromhex(ARTEFACT))),  # of something else, by the right key
    ],
)
def test_a_signature_that_does_not_fit_is_refused(policy: Any, artefact: str, manifest: Manifest, signature) -> None:
    code, _ = refused(Signatures(policy, (public_text(KEY),)), artefact, manifest, signature)
    assert code == "signature_invalid"


@given(st.integers(0, 511))
def test_any_changed_bit_is_noticed(bit: int) -> None:
    changed = bytearray(GOOD)
    changed[bit // 8] ^= 1 << bit % 8
    code, text = refused(Signatures("required", (public_text(KEY),)), ARTEFACT, MANIFEST, bytes(changed))
    assert code == "signature_invalid"
    assert name_of(KEY) in text


def test_without_trusted_keys_nothing_can_be_said_of_a_signature() -> None:
    assert Signatures("off", ()).verify(ARTEFACT, MANIFEST, b"anything") == ""


@pytest.mark.parametrize(
    ("trusted", "text"),
    [
        (("???",), r"functions\.trusted\[0\] is not base64"),
        ((base64.b64encode(bytes(31)).decode(),), r"functions\.trusted\[0\] has 31 bytes"),
        ((public_text(KEY), ""), r"functions\.trusted\[1\] has 0 bytes"),
        (("schlüssel",), "is not base64"),
        ((), r'functions\.signatures is "required", and functions\.trusted names no key'),
    ],
)
def test_keys_that_are_none_stop_the_start(trusted: tuple[str, ...], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Signatures("required", trusted)


def test_the_signed_message_is_of_its_own_form() -> None:
    assert message(ARTEFACT, MANIFEST) == (b"edgecache function signature v1\n" + ARTEFACT.encode() + b'\n{"name":"f"}')


def test_a_private_key_is_read_from_pem_or_base64() -> None:
    raw = KEY.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    for text in (pem(KEY), b"\n" + pem(KEY), base64.b64encode(raw) + b"\n"):
        assert public_text(private_key(text)) == public_text(KEY)
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for text, why in (
        (pem(generate_private_key(SECP256R1())), "another kind than Ed25519"),
        (pem(KEY, BestAvailableEncryption(b"secret")), "without a password"),
        (public, "not a PEM key"),
        (b"-----BEGIN rubbish", "not a PEM key"),
        (b"", "has 0 bytes"),
        (b"rubbish!", "not base64"),
    ):
        with pytest.raises(ConfigError, match=why):
            private_key(text)
