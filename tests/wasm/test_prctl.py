import errno

import pytest

from edgecache.wasm import prctl


def test_what_the_kernel_refuses_is_an_error() -> None:
    assert prctl.available()
    with pytest.raises(OSError, match="prctl") as refused:
        prctl.call(9999, 0)
    assert refused.value.errno == errno.EINVAL


def test_a_system_call_that_does_not_exist() -> None:
    with pytest.raises(OSError, match="system call 9999") as refused:
        prctl.system_call(9999)
    assert refused.value.errno == errno.ENOSYS


def test_a_system_call_gives_its_result() -> None:
    assert prctl.system_call(39) > 1  # getpid on x86-64, and nothing harmful elsewhere
