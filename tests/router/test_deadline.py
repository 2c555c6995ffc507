import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.clock import ManualClock
from edgecache.config import Router, ServiceLevel, ServiceLevels
from edgecache.router.deadline import due
from edgecache.router.reader import Reader
from edgecache.types import Call, Endpoint, ServiceClass, Tenant, Terms, Wishes

LEVELS = ServiceLevels(realtime=ServiceLevel(deadline=2.0), batch=ServiceLevel(deadline=500.0))


def asked(service: ServiceClass, wishes: Wishes) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    tenant = Tenant("t", terms=Terms(service=service))
    return Call("r", tenant, Endpoint.CHAT, "m", body, msgspec.json.encode(body), wishes=wishes)


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        (Wishes(), 102.0),
        (Wishes(arrived=95.0), 97.0),
        (Wishes(deadline=0.5, arrived=95.0), 95.5),
        (Wishes(deadline=60.0), 102.0),
        (Wishes(service=ServiceClass.BATCH), 600.0),
        (Wishes(service=ServiceClass.BATCH, deadline=60.0), 160.0),
    ],
)
def test_the_class_says_when_an_answer_is_due_and_a_request_only_that_it_is_sooner(wishes, expected) -> None:
    assert due(asked(ServiceClass.REALTIME, wishes), LEVELS, 100.0) == expected


def test_nobody_gets_a_better_class_by_asking() -> None:
    assert due(asked(ServiceClass.BATCH, Wishes(service=ServiceClass.REALTIME)), LEVELS, 100.0) == 600.0


@given(
    st.sampled_from(ServiceClass),
    st.builds(
        Wishes,
        service=st.none() | st.sampled_from(ServiceClass),
        deadline=st.none() | st.floats(0.1, 1000),
        arrived=st.none() | st.floats(0, 100),
    ),
)
def test_who_waits_for_anothers_answer_has_the_deadline_that_the_broker_would_keep(service, wishes) -> None:
    call = asked(service, wishes)
    reader = Reader(Router(classes=LEVELS), clock=ManualClock(100.0))
    assert due(call, LEVELS, 100.0) == reader.demand(call).due
