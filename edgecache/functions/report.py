"""What is told of functions to those who own them: lists, status, versions, statistics, limits. Changes nothing."""

from typing import Any

import msgspec

from edgecache.config.tree import Functions
from edgecache.functions.grants import describe
from edgecache.functions.manifest import canonical
from edgecache.functions.registry import Registry
from edgecache.functions.runner import Runner
from edgecache.functions.versions import Deployment, Loaded, Split, Version


class Report:
    """Makes JSON-able reports. Raises NotFound for functions that do not exist."""

    def __init__(self, registry: Registry, runner: Runner, settings: Functions) -> None:
        self._registry = registry
        self._runner = runner
        self._settings = settings

    def all(self, tenant: str | None) -> list[dict[str, Any]]:
        """One line for each function of `tenant`, with None of all tenants."""
        return [self._line(deployment) for deployment in self._registry.deployments(tenant)]

    def _line(self, deployment: Deployment) -> dict[str, Any]:
        tenant, name = deployment.tenant, deployment.name
        active = self._registry.running(tenant, name)
        return {
            "tenant": tenant,
            "name": name,
            "kind": active.stable.version.kind.value if active else None,
            **_split(deployment.split),
            "versions": len(self._registry.versions(tenant, name)),
            "calls": sum(each["calls"] for each in self._figures(tenant, name).values()),
            "trouble": active.trouble if active else "",
        }

    def deployed(self, version: Version) -> dict[str, Any]:
        """The answer to an upload."""
        split = self._registry.deployment(version.tenant, version.name).split
        return {**_line(version), "split": _split(split)}

    def status(self, tenant: str, name: str) -> dict[str, Any]:
        """What runs, since when and why, and how it went."""
        deployment = self._registry.deployment(tenant, name)
        active = self._registry.running(tenant, name)
        return {
            "tenant": tenant,
            "name": name,
            "split": _split(deployment.split),
            "trouble": active.trouble if active else "",
            "manifest": msgspec.json.decode(canonical(active.stable.version.manifest)) if active else None,
            "active": [_line(each.version) for each in self._running(tenant, name)],
            "stats": self._figures(tenant, name),
            "history": [
                {"at": each.at, "who": each.who, "what": each.what, "message": each.message, "to": _split(each.after)}
                for each in reversed(deployment.history)
            ],
        }

    def versions(self, tenant: str, name: str) -> list[dict[str, Any]]:
        """All that are kept, newest first."""
        split = self._registry.deployment(tenant, name).split
        kept = reversed(self._registry.versions(tenant, name))
        return [{**_line(version), "runs": _role(version.number, split)} for version in kept]

    def stats(self, tenant: str, name: str) -> dict[str, Any]:
        """Calls, outcomes and times of the versions that run, by number."""
        self._registry.deployment(tenant, name)
        return {"stats": self._figures(tenant, name)}

    def limits(self, tenant: str, name: str) -> dict[str, Any]:
        """What the stable version asked for, the operator's ceiling, and what it has."""
        self._registry.deployment(tenant, name)
        active = self._registry.running(tenant, name)
        shares = describe(active.stable.version.manifest, self._settings) if active else ()
        return {"limits": [msgspec.to_builtins(share) for share in shares]}

    def _running(self, tenant: str, name: str) -> list[Loaded]:
        active = self._registry.running(tenant, name)
        return [each for each in (active.stable, active.canary) if each] if active else []

    def _figures(self, tenant: str, name: str) -> dict[str, Any]:
        return {
            str(each.version.number): msgspec.to_builtins(self._runner.stats(each.version))
            for each in self._running(tenant, name)
        }


def _split(split: Split) -> dict[str, Any]:
    return {"stable": split.stable, "canary": split.canary, "weight": split.weight if split.canary else 0.0}


def _role(number: int, split: Split) -> str:
    return "stable" if number == split.stable else "canary" if number == split.canary else ""


def _line(version: Version) -> dict[str, Any]:
    return {
        "name": version.name,
        "number": version.number,
        "digest": version.digest,
        "artefact": version.artefact,
        "kind": version.kind.value,
        "size": version.size,
        "code": version.code,
        "cpu": version.cpu,
        "created": version.created,
        "message": version.message,
        "author": version.author,
        "signer": version.signer,
        "warning": version.warning,
    }
