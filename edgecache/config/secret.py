"""The form in which API keys are compared and may stand in the configuration: a keyed hash, never the key. Pure."""

import hmac
import re

HASHED = "hmac-sha256:"
_DOMAIN = b"edgecache api key v1"
_FORM = re.compile(re.escape(HASHED) + "[0-9a-f]{64}")


def hashed(key: str) -> str:
    """`key` in the form that may stand in the configuration instead of it."""
    return HASHED + presented(key).hex()


def well_formed(key: str) -> bool:
    """Whether `key`, which begins with `HASHED`, is what `hashed` makes."""
    return _FORM.fullmatch(key) is not None


def digest(key: str) -> bytes:
    """The hash of a key given plainly or in its hashed form."""
    return bytes.fromhex(key.removeprefix(HASHED)) if key.startswith(HASHED) else presented(key)


def presented(key: str) -> bytes:
    """The hash of a key as a client sends it: a hash sent as a key is only another wrong key."""
    return hmac.digest(_DOMAIN, key.encode("utf-8", "surrogateescape"), "sha256")
