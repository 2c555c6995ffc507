"""What the tree's types cannot say: settings that are each valid but not together. Pure."""

import binascii
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from urllib.parse import urlsplit

from edgecache.config import address, secret
from edgecache.config.access import Auth, AuthTenant
from edgecache.config.routing import Upstream
from edgecache.config.tree import Admin, Cache, Config, Core, Functions, ScopePolicy, Semantic
from edgecache.types import Tier

Finding = tuple[str, str]
"""A dotted key, and what is wrong with it."""


def findings(config: Config) -> Iterator[Finding]:
    """Everything that makes `config` unusable."""
    yield from _listeners(config)
    yield from _developers(config.admin)
    yield from _auth(config.auth)
    yield from _upstreams(config)
    yield from _router(config)
    yield from _core(config.core)
    yield from _hits(config.cache, config)
    yield from _functions(config.functions)
    if config.store.initial_map_bytes > config.store.max_bytes:
        yield "store.initial_map_bytes", "is more than store.max_bytes"


def _listeners(config: Config) -> Iterator[Finding]:
    public = admin = None
    try:
        public = address.parse(config.server.listen)
    except ValueError as error:
        yield "server.listen", str(error)
    try:
        admin = address.parse(config.admin.listen)
    except ValueError as error:
        yield "admin.listen", str(error)
    if admin and not admin.loopback and not config.admin.token:
        yield "admin.listen", "reachable from other machines: set admin.token, or listen on 127.0.0.1"
    if public and not public.loopback and config.auth.mode == "none" and not config.auth.anonymous:
        yield "server.listen", "reachable from other machines without keys: set auth.mode, or auth.anonymous = true"
    if public and public == admin and public.port:
        yield "admin.listen", "is the same as server.listen"


def _auth(auth: Auth) -> Iterator[Finding]:
    if auth.mode == "keys" and not auth.tenant:
        yield "auth.mode", 'is "keys" without any [[auth.tenant]]'
    for tenant_id in _repeated(tenant.id for tenant in auth.tenant):
        yield "auth.tenant", f"two tenants are named {tenant_id!r}"
    keys = [(index, key) for index, tenant in enumerate(auth.tenant) for key in (*tenant.keys, *_own(tenant))]
    for index, key in [*keys, *((-1, key) for key in auth.peers)]:
        if not key or (key.startswith(secret.HASHED) and not secret.well_formed(key)):
            where = "auth.peers" if index < 0 else f"auth.tenant[{index}].keys"
            yield where, f"a key is empty, or not {secret.HASHED} and 64 hexadecimal digits"
            return
    digests = [digest for _, digest in {(index, secret.digest(key).hex()) for index, key in keys}]
    if _repeated(digests):
        yield "auth.tenant", "two tenants share a key"
    if set(digests) & {secret.digest(key).hex() for key in auth.peers}:
        yield "auth.peers", "the key of a neighbour POP is that of a tenant too"
    for index, tenant in enumerate(auth.tenant):
        yield from _keys(tenant, f"auth.tenant[{index}]")


def _own(tenant: AuthTenant) -> list[str]:
    return [each.key for each in tenant.key]


def _keys(tenant: AuthTenant, where: str) -> Iterator[Finding]:
    """Keys with terms of their own: each once, told apart by name, and not above their tenant."""
    digests = [secret.digest(key).hex() for key in (*tenant.keys, *_own(tenant))]
    if _repeated([*digests[len(tenant.keys) :], *set(digests[: len(tenant.keys)])]):
        yield f"{where}.key", "one of its keys stands there twice"
    for name in _repeated(each.name for each in tenant.key if each.name):
        yield f"{where}.key", f"two keys are named {name!r}"
    for index, each in enumerate(tenant.key):
        best = tenant.service_class
        if best is not None and each.service_class is not None and each.service_class.rank < best.rank:
            yield f"{where}.key[{index}].service_class", f"is better than that of its tenant ({best})"


def _developers(admin: Admin) -> Iterator[Finding]:
    if admin.developer and not admin.token:
        yield "admin.developer", "without admin.token anybody is the operator, and developers' tokens mean nothing"
    tokens = [(index, token) for index, developer in enumerate(admin.developer) for token in developer.tokens]
    for index, token in tokens:
        if not token or (token.startswith(secret.HASHED) and not secret.well_formed(token)):
            yield f"admin.developer[{index}].tokens", f"a token is empty, or not {secret.HASHED} and 64 hex digits"
            return
    known = [secret.digest(token).hex() for _, token in tokens]
    if admin.token:
        known.append(secret.presented(admin.token).hex())
    if _repeated(known):
        yield "admin.developer", "two developers share a token, or one has that of the operator"


def _functions(functions: Functions) -> Iterator[Finding]:
    for network in functions.private:
        try:
            ip_network(network)
        except ValueError as error:
            yield "functions.private", str(error)
    for key in functions.trusted:
        if not _is_key(key):
            yield "functions.trusted", f"{key!r} is not the base64 form of 32 bytes, an Ed25519 public key"
    if functions.signatures == "required" and not functions.trusted:
        yield "functions.trusted", 'is empty: with functions.signatures = "required" nothing could be uploaded'


def _is_key(text: str) -> bool:
    try:
        return len(b64decode(text, validate=True)) == 32
    except (binascii.Error, ValueError):
        return False


def _upstreams(config: Config) -> Iterator[Finding]:
    for name in _repeated(upstream.name for upstream in config.upstream):
        yield "upstream", f"two upstreams are named {name!r}"
    for index, upstream in enumerate(config.upstream):
        if upstream.url.rstrip("/").endswith("/v1"):
            yield f"upstream[{index}].url", "leave out the /v1 at its end"
        elif not _is_url(upstream.url):
            yield f"upstream[{index}].url", "is not a URL with a host and, if any, a port up to 65535"
        for key, what in _upstream(upstream):
            yield f"upstream[{index}].{key}", what


def _upstream(upstream: Upstream) -> Iterator[Finding]:
    if (upstream.tier is Tier.PEER) != (upstream.dialect == "edgecache"):
        yield "tier", 'a neighbour POP has tier = "peer" and dialect = "edgecache", and nothing else has'
    if upstream.load == "trtllm_json" and upstream.dialect != "trtllm":
        yield "load", "only trtllm-serve has this form of metrics"
    if upstream.load == "prometheus" and upstream.load_url is None and upstream.dialect in {"openai", "edgecache"}:
        yield "load_url", f"is needed: a server of dialect {upstream.dialect!r} has its metrics nowhere in particular"
    if upstream.load_url is not None and not (upstream.load_url.startswith("/") or _is_url(upstream.load_url)):
        yield "load_url", "is neither a path nor a URL"
    if upstream.load_url is not None and upstream.load == "none":
        yield "load_url", 'has no effect with load = "none"'
    if upstream.priority and upstream.dialect in {"openai", "edgecache"}:
        yield "priority", f"a server of dialect {upstream.dialect!r} knows none"
    for name in _repeated(each.name for each in upstream.model):
        yield "model", f"two tables are about {name!r}"
    for each in upstream.model:
        if upstream.models and each.name not in upstream.models:
            yield "model", f"{each.name!r} is not among its models"


def _router(config: Config) -> Iterator[Finding]:
    """The broker: routes that are never reached, budgets that nobody counts, prompts that could go nowhere."""
    routes = config.router.route
    for index, route in enumerate(routes):
        if not (route.target or route.fallback or route.small or route.mirror or route.gpu or route.gpu_memory):
            yield f"router.route[{index}]", "says nothing about its model"
        if any(each.model == route.model and each.tenant in (None, route.tenant) for each in routes[:index]):
            yield f"router.route[{index}]", "is never reached: an earlier route holds for all of its requests"
    tenants = config.auth.tenant
    if not config.router.ledger.enabled and any(each.budget for tenant in tenants for each in (tenant, *tenant.key)):
        yield "router.ledger.enabled", "budgets need the ledger: without it a restart forgets what was spent"
    if config.router.discovery is None and config.upstream:
        places = {upstream.jurisdiction for upstream in config.upstream} - {""}
        for index, tenant in enumerate(tenants):
            if tenant.residency and not places & set(tenant.residency):
                yield f"auth.tenant[{index}].residency", "no upstream has a jurisdiction that it allows"
        if config.router.residency and not places & set(config.router.residency):
            yield "router.residency", "no upstream has a jurisdiction that it allows"


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.port != 0 and not any(map(str.isspace, text))
    except ValueError:
        return False


def _core(core: Core) -> Iterator[Finding]:
    for name in ("time_to_first_token", "inter_token_latency"):
        mean, deviation = getattr(core, name), getattr(core, f"{name}_std_dev")
        if deviation > 0.3 * mean:
            yield f"core.{name}_std_dev", f"is more than 30 % of core.{name} ({deviation:g} of {mean:g})"


_PLACE = ("tenant", "namespace", "model")


def _hits(cache: Cache, config: Config) -> Iterator[Finding]:
    """Hit policies and learning: settings without effect are mistakes, since nobody sees them fail."""
    semantic, learning = cache.semantic, cache.learning
    if learning.differ >= learning.agree:
        yield "cache.learning.differ", f"is not below cache.learning.agree ({learning.differ:g}, {learning.agree:g})"
    served = [upstream.models for upstream in config.upstream]
    if learning.judge is not None and served and all(served) and not any(learning.judge in each for each in served):
        yield "cache.learning.judge", f"no upstream lists the model {learning.judge!r}"
    if semantic.policy == "similarity" and semantic.similarity < semantic.floor:
        yield "cache.semantic.similarity", "has no effect: it is below cache.semantic.floor"
    for index, scope in enumerate(semantic.scope):
        for what in _scope(scope, semantic, index, config):
            yield f"cache.semantic.scope[{index}]", what


def _scope(scope: ScopePolicy, semantic: Semantic, index: int, config: Config) -> Iterator[str]:
    overrides = {name: getattr(scope, name) for name in scope.__struct_fields__ if name not in _PLACE}
    if all(value is None for value in overrides.values()):
        yield "overrides nothing"
    if all(getattr(scope, name) is None for name in _PLACE):
        yield "matches every request: set cache.semantic itself"
    for earlier in semantic.scope[:index]:
        if all(getattr(earlier, name) in (None, getattr(scope, name)) for name in _PLACE):
            yield "is never reached: an earlier scope matches all of its requests"
            break
    tenants = {tenant.id for tenant in config.auth.tenant}
    if config.auth.mode == "keys" and scope.tenant is not None and scope.tenant not in tenants:
        yield f"there is no tenant {scope.tenant!r}"


def _repeated(values: Iterable[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]
