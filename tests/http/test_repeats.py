import json

import msgspec
import pytest

from edgecache.config import Auth
from edgecache.http.auth import Authenticator
from edgecache.http.repeats import Repeats
from edgecache.types import Call, Controls, Endpoint, Mode, Tenant

PATH = Endpoint.CHAT.path


@pytest.fixture
def auth() -> Authenticator:
    return Authenticator(Auth())


def call(raw: bytes = b"{}", **controls: object) -> Call:
    return Call("r", Tenant("t"), Endpoint.CHAT, "m", json.loads(raw), raw, controls=Controls(**controls))


def test_the_same_bytes_with_the_same_credential_are_known_again(auth: Authenticator) -> None:
    repeats, made = Repeats(), call()
    repeats.learn(PATH, "Bearer k", made, auth)
    assert repeats.find(PATH, "Bearer k", b"{}", auth) == made


def test_what_the_headers_of_the_earlier_request_said_is_forgotten(auth: Authenticator) -> None:
    repeats, made = Repeats(), msgspec.structs.replace(call(), client={"authorization": "Bearer k"})
    repeats.learn(PATH, "Bearer k", made, auth)
    found = repeats.find(PATH, "Bearer k", b"{}", auth)
    assert found is not None
    assert found.client == {}


@pytest.mark.parametrize(
    ("path", "credential", "body"),
    [
        ("/v1/completions", "Bearer k", b"{}"),
        (PATH, "Bearer other", b"{}"),
        (PATH, None, b"{}"),
        (PATH, "Bearer k", b"{ }"),
    ],
    ids=["another endpoint", "another credential", "no credential", "other bytes"],
)
def test_anything_else_is_not(auth: Authenticator, path: str, credential: str | None, body: bytes) -> None:
    repeats = Repeats()
    repeats.learn(PATH, "Bearer k", call(), auth)
    assert repeats.find(path, credential, body, auth) is None


def test_a_reload_of_the_credentials_forgets_everything(auth: Authenticator) -> None:
    repeats, newer = Repeats(), Authenticator(Auth())
    repeats.learn(PATH, None, call(), auth)
    assert repeats.find(PATH, None, b"{}", newer) is None
    repeats.learn(PATH, None, call(b"[1]"), newer)
    assert repeats.find(PATH, None, b"{}", newer) is None


def test_requests_with_controls_and_large_ones_are_left_out(auth: Authenticator) -> None:
    repeats, large = Repeats(), json.dumps("x" * 9000).encode()
    repeats.learn(PATH, None, call(mode=Mode.EXACT), auth)
    repeats.learn(PATH, None, call(large), auth)
    assert repeats.find(PATH, None, b"{}", auth) is None
    assert repeats.find(PATH, None, large, auth) is None


def test_what_is_remembered_is_bounded(auth: Authenticator) -> None:
    repeats = Repeats()
    for number in range(2100):
        repeats.learn(PATH, None, call(str(number).encode()), auth)
    assert repeats.find(PATH, None, b"0", auth) is None
    assert repeats.find(PATH, None, b"2099", auth) is not None
    assert len(repeats._calls) == 2048
