import msgspec
import pytest

from edgecache.config.routing import Feature as Named
from edgecache.router.demand import Demand, Feature, Prefix


def test_every_feature_is_one_bit_and_any_has_them_all() -> None:
    bits = [each.value for each in Feature]
    assert all(bit.bit_count() == 1 for bit in bits)
    assert sum(bits) == Feature.ANY
    assert {each.name.lower() for each in Feature} == set(Named.__args__)


def test_a_demand_that_says_nothing_wants_nothing_special() -> None:
    demand = Demand("m")
    assert not demand.features
    assert not demand.residency
    assert demand.due == demand.budget == float("inf")


@pytest.mark.parametrize("made", [Demand("m"), Prefix(b"d", 1)])
def test_a_demand_does_not_change_while_it_is_decided_upon(made: msgspec.Struct) -> None:
    with pytest.raises(AttributeError):
        setattr(made, made.__struct_fields__[0], "other")
