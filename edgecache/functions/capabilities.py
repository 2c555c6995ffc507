"""What a function may do outside its sandbox: the host behind its one import, and the table of all operations.

Each call is counted, paid for (`budget`), checked against what was granted (`grants`), done by one of `host`'s modules,
framed (`wasm.hostcalls`) and, where it was denied or changes, reveals or spends something, audited. Refusals are
answers to the function; only a budget that is spent ends its call.
"""

import logging
from collections.abc import Mapping

from edgecache.config.tree import Functions
from edgecache.errors import EdgeCacheError, FunctionFault
from edgecache.functions.budget import Budget
from edgecache.functions.context import Context
from edgecache.functions.grants import Grants, granted, needs_waiting
from edgecache.functions.host import fetch, kv, llm, log, variables
from edgecache.functions.host.calling import Calling, Operation, Services
from edgecache.functions.versions import Version
from edgecache.store.kv import KvInvalid, QuotaExceeded
from edgecache.telemetry.metrics import Metrics
from edgecache.wasm.base import NoHost, unpack
from edgecache.wasm.hostcalls import Code, HostRefused, answered, refused

__all__ = ["Capabilities", "Context", "FunctionHost", "Services", "needs_waiting"]

OPERATIONS: Mapping[str, Operation] = {
    **log.OPERATIONS,
    **variables.OPERATIONS,
    **kv.OPERATIONS,
    **fetch.OPERATIONS,
    **llm.OPERATIONS,
}
STREAMING = frozenset(("body.read", "body.head", "body.write"))
"""Operations of the request itself: neither counted nor granted, and bounded by the time and size of the response."""
_OK = "ok"
logger = logging.getLogger(__name__)
_KNOWN_VERSIONS = 1024


class Capabilities:
    """Makes the hosts of calls. Thread-safe."""

    def __init__(self, services: Services, *, settings: Functions, metrics: Metrics) -> None:
        self._services = services
        self._settings = settings
        self._counted = metrics.function_host_calls
        self._tokens = metrics.function_tokens
        self._grants: dict[str, Grants] = {}

    def grants(self, version: Version) -> Grants:
        """What `version` may do and take: a matter of its manifest, which its digest names."""
        found = self._grants.get(version.digest)
        if found is None:
            if len(self._grants) >= _KNOWN_VERSIONS:
                self._grants.clear()
            found = self._grants[version.digest] = granted(version.manifest, self._settings)
        return found

    def host(self, version: Version, context: Context) -> "FunctionHost":
        """The host of one call of `version`. Its calls block, unless `needs_waiting` says otherwise of the manifest."""
        grants = self.grants(version)
        budget = Budget(grants, self._services.clock, context.deadline)
        return FunctionHost(Calling(version, context, grants, budget, self._services), self)

    def count(self, version: Version, op: str, result: str) -> None:
        """One host call more in the metrics."""
        known = op if op in OPERATIONS or op in STREAMING else "unknown"
        self._counted.labels(version.tenant, version.name, known, result).inc()

    def meter(self, version: Version, tokens: Mapping[str, int]) -> None:
        """Count the tokens, by type, of one host call."""
        for kind, number in tokens.items():
            self._tokens.labels(version.tenant, version.name, kind).inc(number)


class FunctionHost:
    """The host of one call of a function (`wasm.base.Host`). Used by one thread at a time."""

    def __init__(self, calling: Calling, capabilities: Capabilities) -> None:
        self._calling = calling
        self._capabilities = capabilities

    @property
    def budget(self) -> Budget:
        """What the call has spent."""
        return self._calling.budget

    def call(self, op: str, argument: bytes) -> bytes:
        """The answer to one host call; raises FunctionFault when a budget is spent."""
        if op in STREAMING:
            return (self._calling.context.stream or NoHost()).call(op, argument)
        try:
            result, answer = self._paid(op, argument)
        except FunctionFault as fault:
            self._capabilities.count(self._calling.version, op, fault.fault.value)
            raise
        self._capabilities.count(self._calling.version, op, result)
        return answer

    def _paid(self, op: str, argument: bytes) -> tuple[str, bytes]:
        budget = self._calling.budget
        budget.call()
        budget.move(len(argument))
        result, answer = self._audited(op, argument)
        budget.move(len(answer))
        return result, answer

    def _audited(self, op: str, argument: bytes) -> tuple[str, bytes]:
        self._calling.about("")
        result, answer = self._answer(op, argument)
        self._capabilities.meter(self._calling.version, self._calling.tokens)
        if result == Code.DENIED or self._calling.effect:
            self._calling.audit(op, result)
        return result, answer

    def _answer(self, op: str, argument: bytes) -> tuple[str, bytes]:
        """How the call ended, and the answer to the function."""
        try:
            return _OK, answered(*_run(self._calling, op, argument))
        except HostRefused as refusal:
            code, message = refusal.code, refusal.message
        except KvInvalid as error:
            code, message = Code.INVALID, error.message
        except QuotaExceeded as error:
            code, message = Code.QUOTA, error.message
        except FunctionFault:
            raise
        except EdgeCacheError as error:
            code, message = Code.UNAVAILABLE, error.message
        except (ValueError, OSError):  # msgspec's too: what others send is not ours to foresee
            version = self._calling.version
            logger.exception("host call %s of %s (tenant %s) failed", op[:40], version.label, version.tenant)
            code, message = Code.UNAVAILABLE, f"{op} failed"
        return code.value, refused(code, message)


def _run(calling: Calling, op: str, argument: bytes) -> list[bytes]:
    """The fields of the answer."""
    operation = OPERATIONS.get(op)
    if operation is None:
        raise HostRefused(Code.INVALID, f"there is no host operation {op[:40]!r}")
    try:
        fields = unpack(argument)
    except ValueError as error:
        raise HostRefused(Code.INVALID, f"{op}: {error}") from error
    if len(fields) < operation.least or (operation.most is not None and len(fields) > operation.most):
        raise HostRefused(Code.INVALID, f"{op} takes {operation.takes}: not {len(fields)} fields")
    return list(operation.run(calling, fields))
