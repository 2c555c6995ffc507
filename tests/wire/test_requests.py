import msgspec
import pytest

from edgecache.types import Endpoint
from edgecache.wire import requests


@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_every_endpoint_has_a_shape_and_a_list_that_is_counted(endpoint: Endpoint) -> None:
    assert requests.LISTS[endpoint] in requests.SHAPES[endpoint].__struct_fields__


def test_every_checked_field_comes_with_advice() -> None:
    stand_ins = {"previous_response_id", "conversation"}  # taken as they are
    checked = {field for shape in requests.SHAPES.values() for field in shape.__struct_fields__}
    assert checked - stand_ins == set(requests.ADVICE)


def test_fields_that_are_not_checked_do_not_matter() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi", "name": 7}], "cache": {"ttl": 1}, "top_p": "x"}
    assert msgspec.convert(body, requests.Chat).model == "m"
