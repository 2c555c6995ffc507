import msgspec
import pytest

from edgecache.types import ServiceClass
from edgecache.upstream.sending import Sending


def test_nothing_is_said_unless_it_is_said() -> None:
    assert all(not getattr(Sending(), name) for name in Sending.__struct_fields__)


def test_it_does_not_change_once_it_is_on_its_way() -> None:
    sending = Sending(service=ServiceClass.BATCH)
    with pytest.raises(AttributeError):
        sending.service = ServiceClass.REALTIME  # type: ignore[misc]
    assert msgspec.structs.replace(sending, hops=1).service is ServiceClass.BATCH
