"""When the answer to a request is due: what its class is promised, or what it asks for where that is sooner. Pure."""

from edgecache.config import ServiceLevel, ServiceLevels
from edgecache.types import Call


def due(call: Call, classes: ServiceLevels, now: float) -> float:
    """Monotonic seconds by which the answer to `call` has to end; `now` is when it came if it does not say."""
    wishes = call.wishes
    level: ServiceLevel = getattr(classes, call.tenant.terms.served_as(wishes.service))
    seconds = level.deadline if wishes.deadline is None else min(level.deadline, wishes.deadline)
    return (now if wishes.arrived is None else wishes.arrived) + seconds
