from pathlib import Path

import pytest

from edgecache.cli.admin import Admin
from edgecache.cli.fn_remote import Remote, remote
from edgecache.config.address import Address
from edgecache.errors import FunctionRefused

NOWHERE = Admin(Address("127.0.0.1", 1), None)


def test_paths_name_the_function_and_quote_what_is_in_the_way() -> None:
    there = Remote(NOWHERE, "a&b", "greet")
    assert there.path("kv", "s/t", "é?") == "/admin/v1/functions/greet/kv/s%2Ft/%C3%A9%3F?tenant=a%26b"
    assert Remote(NOWHERE, None, "greet").path("logs", query={"phase": "hit", "level": None}) == (
        "/admin/v1/functions/greet/logs?phase=hit"
    )
    assert Remote(NOWHERE, None, "greet").path("kv", "s", "") == "/admin/v1/functions/greet/kv/s/"
    assert Remote(NOWHERE, None).path() == "/admin/v1/functions"


def test_the_name_is_given_or_that_of_the_folder(function: Path, tmp_path: Path) -> None:
    assert remote(None, None, None, None, folder=function).name == "greet"
    assert remote(None, None, None, None, folder=tmp_path, name="other").name == "other"
    with pytest.raises(FunctionRefused, match="name its folder with --dir"):
        remote(None, None, None, None, folder=tmp_path)
