"""Signs of personal data in a question: mail addresses, telephone, card, account and social-security numbers.

A net with wide meshes, for keeping such questions out of answers that others get. It promises no more than that.
"""

import re

_SCANNED = 16_384
"""Characters looked at from either end: a long text must not hold up the event loop."""

_MAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_NUMBER = re.compile(r"(?<![\w.])\+?\(?\d[\d ().-]{7,24}\d(?![\w.]?\d)")
_SOCIAL_SECURITY = re.compile(r"\b\d{3}-\d{2}-\d{4}\b")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")


def contains(text: str) -> bool:
    """Whether `text` seems to hold personal data."""
    if len(text) > 2 * _SCANNED:
        text = f"{text[:_SCANNED]} {text[-_SCANNED:]}"
    if "@" in text and _MAIL.search(text) is not None:
        return True
    if not any(digit in text for digit in "0123456789"):
        return False
    if _SOCIAL_SECURITY.search(text) is not None or any(_is_iban(match[0]) for match in _IBAN.finditer(text)):
        return True
    return any(_is_telephone(match[0]) or _is_card(match[0]) for match in _NUMBER.finditer(text))


def _is_telephone(text: str) -> bool:
    """International form, or at least two groups: a bare run of digits is more often a quantity."""
    digits = sum(map(str.isdigit, text))
    groups = [group for group in re.split(r"[ ().-]+", text) if group]
    return 9 <= digits <= 15 and (text.startswith("+") or (len(groups) >= 3 and text.lstrip("(").startswith("0")))


def _is_card(text: str) -> bool:
    """Thirteen to nineteen digits that pass the Luhn check (ISO/IEC 7812-1, annex B)."""
    digits = [int(character) for character in reversed(text) if character.isdigit()]
    if not 13 <= len(digits) <= 19:
        return False
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """The remainder of ISO 13616 is 1."""
    compact = text.replace(" ", "")
    rotated = compact[4:] + compact[:4]
    return int("".join(str(int(character, 36)) for character in rotated)) % 97 == 1
