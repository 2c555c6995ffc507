import pytest

from edgecache.config.address import Address, parse


@pytest.mark.parametrize(
    ("text", "expected", "loopback"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080), True),
        ("127.9.9.9:0", Address("127.9.9.9", 0), True),
        ("[::1]:8080", Address("::1", 8080), True),
        ("localhost:80", Address("localhost", 80), True),
        ("0.0.0.0:80", Address("0.0.0.0", 80), False),
        (":80", Address("", 80), False),
        ("[::]:80", Address("::", 80), False),
        ("pop.example:65535", Address("pop.example", 65535), False),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, expected: Address, loopback: bool) -> None:
    assert parse(text) == expected
    assert parse(text).loopback is loopback


@pytest.mark.parametrize("text", ["", "8080", "host:", "host:x", "host:65536", "host:-1", "::1:80", "host:²"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)
