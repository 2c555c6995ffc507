import msgspec
import pytest

from edgecache.config.section import Section, Whole, doc


class Box(Section, frozen=True):
    size: Whole = 1


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="colour"):
        msgspec.convert({"colour": "red"}, Box)


def test_numbers_have_bounds() -> None:
    with pytest.raises(msgspec.ValidationError, match=">= 0"):
        msgspec.convert({"size": -1}, Box)


def test_a_section_does_not_change() -> None:
    with pytest.raises(AttributeError):
        Box().size = 2  # type: ignore[misc]


def test_what_a_setting_means_is_part_of_its_type() -> None:
    assert doc("how large").description == "how large"
