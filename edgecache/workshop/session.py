"""`fn dev`: a POP of one's own with one function in it, built and deployed anew whenever its sources change.

After each build the calls that the function got so far are made again, with the POP's own host, and what comes of them
now is shown beside what came of them before.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from edgecache.clock import Clock
from edgecache.errors import EdgeCacheError, FunctionFault
from edgecache.functions.journal import Event, Filter
from edgecache.functions.manifest import Phase
from edgecache.functions.runner import Job
from edgecache.functions.runtime import Runtime
from edgecache.functions.versions import Loaded
from edgecache.tasks import Tasks
from edgecache.types import Tenant
from edgecache.wasm.base import Host, Limits, Program, Request, Response
from edgecache.workshop import building, hits, project, watching
from edgecache.workshop.hits import Hit, Hits
from edgecache.workshop.project import Project

TENANT = "default"
"""Whose the function is: that of requests without a key."""
INTERVAL = 0.3
"""Seconds between two looks at the sources."""
_REPLAY = "replay"
"""The request id of calls that are made again."""
_SHOWN: tuple[Event, ...] = ("log", "call", "audit", "lost")
"""Events of the journal that are shown; deployments are told here."""


class Recording:
    """A program whose calls are kept."""

    def __init__(self, program: Program, kept: Hits) -> None:
        self.kind = program.kind
        self._program = program
        self._kept = kept

    def run(self, request: Request, limits: Limits, host: Host | None = None) -> Response:
        """As the program does."""
        try:
            response = self._program.run(request, limits, host)
        except FunctionFault as fault:
            self._keep(request, None, fault.message)
            raise
        self._keep(request, response)
        return response

    def _keep(self, request: Request, response: Response | None, fault: str = "") -> None:
        phase = Phase(dict(request.headers).get("x-edgecache-phase", Phase.ROUTE))
        if (hit := hits.of(phase, request, response, fault)) is not None:
            self._kept.add(hit)

    def close(self) -> None:
        """As the program does."""
        self._program.close()


class Session:
    """One function at work in a POP whose functions are `runtime`. `say` prints a line."""

    def __init__(
        self,
        runtime: Runtime,
        found: Project,
        *,
        environment: Mapping[str, str],
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self.project = found
        self.hits = Hits(found.state / "hits.jsonl")
        self._runtime = runtime
        self._environment = environment
        self._clock = clock
        self._say = say
        self._seen = watching.look(found)
        self._tasks = Tasks()

    async def run(
        self,
        shown: Callable[[Mapping[str, Any]], str],
        stopped: Awaitable[None],
        *,
        watch: bool,
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        """Deploy, tell `begun`, then show the log until `stopped`; `shown` makes a line of a record."""
        try:
            self._tasks.spawn(self._follow(shown), name="dev-log")
            await self.deploy()
            begun()  # whoever tries it earlier gets answers that no function has seen
            self._tasks.spawn(self._look(watch=watch), name="dev-watch")
            await stopped
        finally:
            await self._tasks.close()
            await asyncio.to_thread(self.hits.save)

    async def _look(self, *, watch: bool) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            await asyncio.to_thread(self.hits.save)
            if watch:
                await self.look()

    async def look(self) -> bool:
        """Look at the sources; if one has changed, build, deploy and make the calls again. Whether one has."""
        seen = await asyncio.to_thread(watching.look, self.project)
        changed = watching.changed(self._seen, seen)
        if not changed:
            return False
        self._say(f"changed: {', '.join(file.name for file in changed)}")
        await self.deploy()
        # What a build writes beside the artefact is no change, unless it is said which files are sources.
        told = self.project.manifest.build.watch
        self._seen = seen if told else await asyncio.to_thread(watching.look, self.project)
        return True

    async def deploy(self) -> bool:
        """Build and deploy; tell what is wrong if that does not work, the last version stays at work then."""
        try:
            found = project.find(self.project.folder)
            if found.name != self.project.name:
                raise EdgeCacheError(f"the function was called {self.project.name}: start `fn dev` again")  # noqa: TRY301
            self.project = found
            made = await asyncio.to_thread(building.build, found, self._environment, self._clock)
            artefact = await asyncio.to_thread(found.read)
            version = await self._runtime.registry.deploy(
                TENANT, found.manifest, artefact, message="fn dev", author="fn dev"
            )
        except EdgeCacheError as error:
            self._say(f"not deployed: {error.message}")
            return False
        self._say(f"deployed {version.label}: {version.kind.value}, {made.bytes} bytes")
        self._record()
        await self.replay()
        return True

    def _record(self) -> Loaded:
        """The version at work, from now on with its calls kept."""
        active = self._runtime.registry.running(TENANT, self.project.name)
        assert active is not None  # noqa: S101 - it was deployed
        loaded = active.stable
        if not isinstance(loaded.program, Recording):
            loaded.program = Recording(loaded.program, self.hits)
        return loaded

    async def _follow(self, shown: Callable[[Mapping[str, Any]], str]) -> None:
        wanted = Filter(events=_SHOWN)
        with self._runtime.journal.subscribe(TENANT, self.project.name, wanted) as tail:
            async for record in tail:
                if record.request_id != _REPLAY:
                    self._say(shown(msgspec.to_builtins(record)))

    # ------------------------------------------------------------------------------------------ calls made again
    async def replay(self) -> int:
        """Make the kept calls again and show what changed; in how many of them something did."""
        before, differing = self.hits.all(), 0
        for hit in before:
            after = await self._again(hit)
            if lines := hits.differences(hit, after):
                differing += 1
                self._say(f"  {hit.title}")
                for each in lines:
                    self._say(f"    {each}")
        if before:
            self._say(f"replayed {len(before)} calls: {differing or 'nothing'} changed")
        return differing

    async def _again(self, hit: Hit) -> Hit:
        job = Job(self._record(), hit.phase, hit.request, _as_it_is, Tenant(TENANT), request_id=_REPLAY)
        try:
            response: Response = await self._runtime.runner.run(job)
        except FunctionFault as fault:
            return hits.answered(hit, None, str(fault.__cause__ or fault))
        return hits.answered(hit, response)


def _as_it_is(response: Response) -> Response:
    return response
