from edgecache.functions.context import Context
from edgecache.functions.manifest import Phase
from edgecache.types import Tenant


def test_a_context_names_the_request_and_not_its_credential() -> None:
    context = Context(Tenant("acme", authorization="Bearer sk-1"), Phase.HIT, 12.5)
    assert (context.tenant.id, context.phase, context.deadline, context.stream) == ("acme", Phase.HIT, 12.5, None)
    assert "sk-1" not in repr(context)
