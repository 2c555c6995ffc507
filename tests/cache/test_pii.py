import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.cache import pii


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Write to jane.doe+x@mail.example.org for me", id="a mail address"),
        pytest.param("Call +49 30 1234567 tomorrow", id="an international number"),
        pytest.param("My number is 0171 234 5678", id="a national number in groups"),
        pytest.param("Call (030) 1234-5678, please", id="a number with brackets"),
        pytest.param("Is card 4111 1111 1111 1111 valid?", id="a card number"),
        pytest.param("card 5500005555555559", id="a card number in one piece"),
        pytest.param("SSN 078-05-1120", id="a social security number"),
        pytest.param("Pay to DE89 3704 0044 0532 0130 00", id="an account number"),
    ],
)
def test_personal_data_is_noticed(text: str) -> None:
    assert pii.contains(text)
    assert pii.contains("word " * 10_000 + text)
    assert pii.contains(text + " word" * 10_000)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("What is 2 + 2?", id="a small number"),
        pytest.param("How far is 384400 km in miles?", id="a quantity"),
        pytest.param("Is 4111 1111 1111 1112 valid?", id="a card number that fails its check"),
        pytest.param("Is 1234567890123 a prime?", id="thirteen digits that fail the check"),
        pytest.param("What happened on 2024-05-17 10:00:00?", id="a date and time"),
        pytest.param("How do I use @dataclass in Python 3.11.7?", id="an at sign without an address"),
        pytest.param("GB33 BUKB 2020 1555 5555 57", id="an account number that fails its check"),
        pytest.param("What is 3.14159265358979?", id="a decimal"),
        pytest.param("", id="nothing"),
    ],
)
def test_ordinary_questions_are_left_alone(text: str) -> None:
    assert not pii.contains(text)


@given(st.text(max_size=200))
def test_any_text_can_be_looked_at(text: str) -> None:
    assert pii.contains(text) in {True, False}
