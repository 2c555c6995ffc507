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

import msgspec

from edgecache.config import Admin, Auth, AuthKey, AuthTenant, Quota, Router, secret
from edgecache.errors import Forbidden, NotFound, Unauthorized
from edgecache.types import Allowance, ServiceClass, Tenant, Terms

DEFAULT_TENANT = "default"
_REMEMBERED = 4096
"""Accepted credentials whose tenant is remembered, by a cheaper hash than the one that stands in the configuration."""
_NAME = 12
"""Hexadecimal digits of a hash that name a key, as in `edgecache keys list`."""
_DEFAULTS = Router()


class Access(Enum):
    """What a route asks of its caller. Every route names one; a route without is refused."""

    OPEN = "open"
    """Nothing: probes and metrics of the admin listener."""
    TENANT = "tenant"
    """A tenant, as `auth.mode` has it."""
    NEIGHBOUR = "neighbour"
    """A tenant, or a neighbour POP that speaks for none."""
    OPERATOR = "operator"
    """The admin token, where one is configured."""
    DEVELOPER = "developer"
    """The admin token, or that of a developer, who then reaches the functions of one tenant."""


NEIGHBOUR = Tenant("")
"""A neighbour POP that speaks for no tenant."""


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

    def __init__(self, settings: Auth, router: Router = _DEFAULTS) -> None:
        self._mode = settings.mode
        self._common = Terms(service=router.service_class, residency=frozenset(router.residency))
        self._default = Tenant(DEFAULT_TENANT, terms=self._common)
        self._known: dict[bytes, Tenant] = {}
        self._tenants: dict[bytes, Tenant] = {}
        self._models: dict[str, frozenset[str]] = {}
        self._named: dict[str, Tenant] = {DEFAULT_TENANT: self._default} if settings.mode == "none" else {}
        self._peers = frozenset(map(secret.digest, settings.peers))
        for tenant in settings.tenant:
            self._models[tenant.id] = frozenset(tenant.models)
            terms = _terms(tenant, self._common)
            self._named[tenant.id] = Tenant(tenant.id, terms=terms)
            for digest in map(secret.digest, tenant.keys):
                self._tenants[digest] = Tenant(tenant.id, writer=digest.hex()[:_NAME], terms=terms)
            for key in tenant.key:
                digest = secret.digest(key.key)
                name = key.name or digest.hex()[:_NAME]
                self._tenants[digest] = Tenant(tenant.id, writer=name, terms=_of_key(tenant.id, key, name, terms))

    @property
    def tenants(self) -> Iterable[Tenant]:
        """Every tenant by every key: those whose allowances are to be counted."""
        return (*self._named.values(), *self._tenants.values())

    def peer(self, authorization: str | None, named: str) -> Tenant | None:
        """Whose request a neighbour POP hands over, if `authorization` is a neighbour's; raises Forbidden.

        The tenant is served on the terms that hold here, whatever they are there.
        """
        if not self.neighbour(authorization):
            return None
        tenant = self._named.get(named or DEFAULT_TENANT)
        if tenant is None:
            raise Forbidden(f"The tenant `{named[:64]}` of `EdgeCache-Tenant` is not known here.")
        return tenant

    def neighbour(self, authorization: str | None) -> bool:
        """Whether `authorization` is the key of a neighbour POP."""
        if not self._peers:
            return False
        scheme, _, token = (authorization or "").partition(" ")
        return scheme.lower() == "bearer" and secret.presented(token.strip()) in self._peers

    def tenant(self, authorization: str | None) -> Tenant:
        """Whose request this is; raises Unauthorized, or Forbidden for a neighbour POP's key: see `peer`."""
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
        if self.neighbour(authorization):
            raise Forbidden("This is the key of a neighbour POP: `EdgeCache-Tenant` has to say whose request it is.")
        if self._mode == "forward":
            return _forwarded(authorization, credential, self._common)
        tenant = self._tenants.get(secret.presented(bearer(authorization)))
        if tenant is None:
            raise Unauthorized("Incorrect API key provided.")
        return tenant

    def known(self, name: str) -> Tenant:
        """The tenant of this name, on its terms; raises NotFound. Without keys any name is one."""
        found = self._named.get(name)
        if found is None and self._mode == "keys":
            raise NotFound(f"There is no tenant `{name[:64]}`.")
        return found or Tenant(name, terms=self._common)

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


def _terms(tenant: AuthTenant, common: Terms) -> Terms:
    """What a tenant's policy says; what it leaves out is as for all."""
    return Terms(
        service=common.service if tenant.service_class is None else tenant.service_class,
        residency=frozenset(tenant.residency) or common.residency,
        weight=tenant.weight,
        continuation=tenant.continuation,
        allowances=_allowances(tenant.id, tenant),
    )


def _of_key(tenant: str, key: AuthKey, name: str, terms: Terms) -> Terms:
    """The terms of one key: its own limits beside those of its tenant, and no better class than that has."""
    service = terms.service if key.service_class is None else max(key.service_class, terms.service, key=_rank)
    own = _allowances(f"{tenant}/{name}", key)
    return msgspec.structs.replace(terms, service=service, allowances=(*terms.allowances, *own))


def _rank(service: ServiceClass) -> int:
    return service.rank


def _allowances(holder: str, quota: Quota) -> tuple[Allowance, ...]:
    if not (quota.requests_per_minute or quota.tokens_per_minute or quota.budget):
        return ()
    return (Allowance(holder, quota.requests_per_minute, quota.tokens_per_minute, quota.budget, quota.period),)


def _forwarded(authorization: str | None, credential: bytes, terms: Terms) -> Tenant:
    """The tenant of a credential that only the upstream can judge: equal credentials share, others never do."""
    if not authorization:
        raise Unauthorized("No credential given: this POP passes `Authorization` on to the upstream.")
    name = credential.hex()
    return Tenant("fwd-" + name, authorization, writer=name[:_NAME], terms=terms)


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
