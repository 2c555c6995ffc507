"""Who may use the public API, and on which terms: service class, residency, models, rates and budgets."""

from typing import Annotated, Literal

from msgspec import Meta

from edgecache.config.section import Amount, Positive, Section, Whole
from edgecache.config.section import doc as _doc
from edgecache.types import ServiceClass

Period = Literal["day", "month"]


class Quota(Section, frozen=True):
    """What may be taken in a time. 0 = no limit."""

    requests_per_minute: Annotated[Whole, _doc("requests a minute, hits included; 0 = no limit")] = 0
    tokens_per_minute: Annotated[
        Whole, _doc("tokens a minute that upstreams read and write; hits cost none; 0 = no limit")
    ] = 0
    budget: Annotated[Amount, _doc("USD per `period` that upstreams may cost; 0 = no limit")] = 0.0
    period: Annotated[Period, _doc("UTC day or month that `budget` is for")] = "month"


class AuthKey(Quota, frozen=True, kw_only=True):
    """One API key on terms of its own, within those of its tenant."""

    key: Annotated[str, _doc("the key, or its digest as `edgecache keys` prints it (secret)")]
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{0,64}$"), _doc("as in usage reports; empty = its digest")] = ""
    service_class: Annotated[
        ServiceClass | None, _doc("best class of its requests; unset = the tenant's, which it cannot exceed")
    ] = None


class AuthTenant(Quota, frozen=True, kw_only=True):
    """One tenant: its API keys and what all of them together may take."""

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$"), _doc("name of the tenant, part of every cache key")]
    keys: Annotated[tuple[str, ...], _doc("API keys of the tenant (secret)")] = ()
    key: Annotated[tuple[AuthKey, ...], _doc("API keys with limits of their own")] = ()
    models: Annotated[tuple[str, ...], _doc("models the tenant may use; empty = all")] = ()
    service_class: Annotated[
        ServiceClass | None, _doc("best class of its requests; unset = `router.service_class`")
    ] = None
    residency: Annotated[
        tuple[str, ...], _doc("jurisdictions that its prompts may be processed in; empty = `router.residency`")
    ] = ()
    weight: Annotated[
        Positive, _doc("share of this tenant where requests have to wait, next to others of its class")
    ] = 1.0
    continuation: Annotated[
        bool, _doc("a stream that dies may be continued by another upstream, marked in the response")
    ] = False


class Auth(Section, frozen=True):
    """Who may use the public API."""

    mode: Annotated[
        Literal["none", "keys", "forward"],
        _doc(
            "`none`: one tenant, no key; `keys`: the keys of `[[auth.tenant]]`; `forward`: the client's own "
            "Authorization goes upstream and separates tenants"
        ),
    ] = "none"
    anonymous: Annotated[bool, _doc("let `none` also serve other machines than this one")] = False
    tenant: Annotated[tuple[AuthTenant, ...], _doc("tenants and their keys, for `keys`")] = ()
    peers: Annotated[
        tuple[str, ...],
        _doc("keys of neighbour POPs, which say in `EdgeCache-Tenant` whose request they hand over (secret)"),
    ] = ()
