import pytest

from edgecache.types import Endpoint, Tenant


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [
        (Endpoint.CHAT, "/v1/chat/completions"),
        (Endpoint.COMPLETIONS, "/v1/completions"),
        (Endpoint.EMBEDDINGS, "/v1/embeddings"),
        (Endpoint.RESPONSES, "/v1/responses"),
    ],
)
def test_an_endpoint_knows_its_path(endpoint: Endpoint, path: str) -> None:
    assert endpoint.path == path


def test_a_tenant_does_not_print_its_credential() -> None:
    assert "secret" not in repr(Tenant("a", authorization="Bearer secret"))
