"""Who is asking: the `Authorization` header as a tenant, once, before anything else. No handler reads that header.

API keys are 256-bit random strings, so one keyed hash with a fixed key is enough to keep them out of the
configuration file, and a look-up by that hash tells nobody through its timing how close a guess was. The beginning of
that hash is also the name that a key goes by: in `edgecache keys list`, and as the writer of what it has filled.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b

from edgecache.config import Admin, Auth, secret
from edgecache.errors import Forbidden, Unauthorized
from edgecache.types import Tenant

DEFAULT_TENANT = "default"
_REMEMBERED = 4096
"""Accepted credentials whose tenant is remembered, by a cheaper hash than the one that stands in the configuration."""
_NAME = 12
"""Hexadecimal digits of a hash that name a key, as in `edgecache keys list`."""


class Access(Enum):
    """What a route asks of its caller. Every route names one; a route without is refused."""

    OPEN = "open"
    """Nothing: probes and metrics of the admin listener."""
    TENANT = "tenant"
    """A tenant, as `auth.mode` has it."""
    OPERATOR = "operator"
    """The admin token, where one is configured."""
    DEVELOPER = "developer"
    """The admin token, or that of a developer, who then reaches the functions of one tenant."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who calls the admin API. `tenant` is the only one whose functions a developer reaches, None for the operator."""

    name: str
    tenant: str | None = None


def bearer(authorization: str | None) -> str:
    """The token of a `Bearer` credential (RFC 6750, section 2.1); raises Unauthorized without one."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized("No API key given. Send it as `Authorization: Bearer KEY`.")
    return token.strip()


class Authenticator:
    """The tenants of one configuration."""

    def __init__(self, settings: Auth) -> None:
        self._mode = settings.mode
        self._default = Tenant(DEFAULT_TENANT)
        self._known: dict[bytes, Tenant] = {}
        self._tenants: dict[bytes, Tenant] = {}
        self._models: dict[str, frozenset[str]] = {}
        for tenant in settings.tenant:
            self._models[tenant.id] = frozenset(tenant.models)
            for digest in map(secret.digest, tenant.keys):
                self._tenants[digest] = Tenant(tenant.id, writer=digest.hex()[:_NAME])

    def tenant(self, authorization: str | None) -> Tenant:
        """Whose request this is; raises Unauthorized."""
        if self._mode == "none":
            return self._default
        credential = blake2b((authorization or "").encode("utf-8", "surrogateescape"), digest_size=16).digest()
        tenant = self._known.get(credential)
        if tenant is None:
            tenant = self._judge(authorization, credential)
            if len(self._known) < _REMEMBERED:
                self._known[credential] = tenant
        return tenant

    def _judge(self, authorization: str | None, credential: bytes) -> Tenant:
        if self._mode == "forward":
            return _forwarded(authorization, credential)
        tenant = self._tenants.get(secret.presented(bearer(authorization)))
        if tenant is None:
            raise Unauthorized("Incorrect API key provided.")
        return tenant

    def admit(self, tenant: Tenant, model: str) -> None:
        """Raise Forbidden unless `tenant` may use `model`. The message is the same whether or not the model exists."""
        if (allowed := self._models.get(tenant.id)) and model not in allowed:
            raise Forbidden(
                f"The model `{model}` does not exist or you do not have access to it.",
                param="model",
                code="model_not_found",
            )

    def visible(self, tenant: Tenant, models: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those of `models` (id, owner) that `tenant` may use."""
        allowed = self._models.get(tenant.id)
        return [model for model in models if not allowed or model[0] in allowed]


def _forwarded(authorization: str | None, credential: bytes) -> Tenant:
    """The tenant of a credential that only the upstream can judge: equal credentials share, others never do."""
    if not authorization:
        raise Unauthorized("No credential given: this POP passes `Authorization` on to the upstream.")
    name = credential.hex()
    return Tenant("fwd-" + name, authorization, writer=name[:_NAME])


OPERATOR = Actor("operator")
NOBODY = Actor("nobody", "")
"""Whoever asks what is open to all."""


def actor(authorization: str | None, settings: Admin) -> Actor:
    """Who calls the admin API: without `admin.token` anybody is the operator. Raises Unauthorized."""
    if settings.token is None:
        return OPERATOR
    given = secret.presented(bearer(authorization))
    if hmac.compare_digest(given, secret.presented(settings.token)):
        return OPERATOR
    for developer in settings.developer:
        for digest in map(secret.digest, developer.tokens):
            if hmac.compare_digest(given, digest):
                return Actor(f"developer {digest.hex()[:_NAME]}", developer.tenant)
    raise Unauthorized("Incorrect admin token.")
