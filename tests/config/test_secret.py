import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.config import secret


@given(st.text(min_size=1).filter(lambda key: not key.startswith(secret.HASHED)))
def test_a_key_and_its_hashed_form_have_one_digest(key: str) -> None:
    form = secret.hashed(key)
    assert secret.well_formed(form)
    assert secret.digest(form) == secret.digest(key)
    assert key not in form or len(key) < 3


@pytest.mark.parametrize("form", ["hmac-sha256:", "hmac-sha256:zz", "hmac-sha256:" + "A" * 64])
def test_anything_else_is_not_well_formed(form: str) -> None:
    assert not secret.well_formed(form)
