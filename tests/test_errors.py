import inspect

import pytest

from edgecache import errors
from edgecache.errors import EdgeCacheError

TREE = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, EdgeCacheError)]


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_the_module_docstring_names_every_error(kind: type[EdgeCacheError]) -> None:
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_and_an_openai_type(kind: type[EdgeCacheError]) -> None:
    assert 400 <= kind.status <= 599
    assert kind.type.endswith("_error")


def test_a_code_of_its_own_beats_the_default_code() -> None:
    assert errors.ModelNotFound("gone").code == "model_not_found"
    assert errors.ModelNotFound("gone", code="other").code == "other"
