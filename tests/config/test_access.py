import msgspec
import pytest

from edgecache.config.access import Auth, AuthKey, AuthTenant
from edgecache.types import ServiceClass


def test_nothing_is_limited_unless_it_is_said() -> None:
    for quota in (AuthTenant(id="t"), AuthKey(key="k")):
        assert (quota.requests_per_minute, quota.tokens_per_minute, quota.budget) == (0, 0, 0.0)


def test_a_class_is_one_of_four() -> None:
    tenant = msgspec.convert({"id": "t", "service_class": "batch"}, AuthTenant)
    assert tenant.service_class is ServiceClass.BATCH
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"id": "t", "service_class": "urgent"}, AuthTenant)


def test_a_key_needs_itself_and_a_tenant_its_name() -> None:
    for section, raw in ((AuthKey, {"name": "app"}), (AuthTenant, {"keys": ["k"]})):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(raw, section)


def test_an_open_pop_has_no_neighbours() -> None:
    assert Auth().peers == ()
