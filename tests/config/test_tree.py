import msgspec
import pytest

from edgecache.config import Config, Upstream


def test_the_defaults_are_a_whole_configuration() -> None:
    assert msgspec.convert({}, Config) == Config()


def test_no_section_can_be_changed() -> None:
    with pytest.raises(AttributeError):
        Config().cache.ttl = 1.0  # type: ignore[misc]


def test_unknown_keys_are_refused_in_every_section() -> None:
    for name, value in msgspec.to_builtins(Config()).items():
        if isinstance(value, dict):
            with pytest.raises(msgspec.ValidationError, match="unknown field"):
                msgspec.convert({name: {**value, "nonsense": 1}}, Config)


def test_an_upstream_needs_a_name_and_a_url() -> None:
    with pytest.raises(msgspec.ValidationError, match="name"):
        msgspec.convert({"url": "http://h"}, Upstream)
    with pytest.raises(msgspec.ValidationError, match="url"):
        msgspec.convert({"name": "a"}, Upstream)
