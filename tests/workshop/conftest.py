"""A function that does what a case asks of it, compiled once for all tests of this folder."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgecache.clock import SystemClock
from edgecache.config import Functions
from edgecache.workshop import cases, project, trial
from edgecache.workshop.local import Local, Ready
from edgecache.workshop.trial import Result

PROBE = """
const store = edgecache.kv("data");
const actions = {
  hello: (request) => new Response("hello " + request.headers.get("x-user"), { headers: { "x-seen": request.headers.get("x-edgecache-phase") } }),
  echo: async (request) => new Response(await request.text()),
  nothing: () => new Response(null, { status: 204 }),
  miss: () => new Response(null, { status: 204, headers: { "x-edgecache-action": "miss" } }),
  strange: () => new Response("?", { status: 418 }),
  count: () => new Response(String(store.increment("visits"))),
  foreign: () => { try { edgecache.kv("other").get("a"); } catch (error) { return new Response(error.code); } },
  secret: () => { console.log("the key is", edgecache.variable("key")); return new Response(edgecache.variable("key") + edgecache.variable("colour")); },
  fetch: async (request) => {
    const url = request.headers.get("x-url");
    try { const found = await fetch(url); return new Response(found.status + " " + (await found.text()), { headers: found.headers }); }
    catch (error) { return new Response(error.code + ": " + error.message); }
  },
  infer: () => new Response(edgecache.llm.infer("small", "say it").text),
  embed: () => new Response(JSON.stringify([...edgecache.llm.embed("small", ["a"]).embeddings[0]])),
  lookup: () => new Response(JSON.stringify(edgecache.cache.lookup("small", "what?"))),
  when: () => new Response(new Date().toISOString() + " " + Math.random()),
  loop: () => { for (;;); },
  throw: () => { throw new Error("boom"); },
};
export default { fetch: (request) => actions[request.headers.get("x-do")](request) };
"""  # noqa: E501 - one action a line

MANIFEST = """
name = "probe"
variables = { colour = "blue" }
[[bind]]
phase = "route"
[limits]
cpu_ms = 200
[allow]
kv = ["data"]
variables = ["colour"]
secrets = ["key"]
fetch = ["https://api.example.com"]
llm = ["small"]
cache = true
[build]
artefact = "probe.js"
"""


@dataclass
class Probe:
    """The probe, ready to be called."""

    local: Local
    ready: Ready

    async def tried(self, action: str, *, headers: dict[str, str] | None = None, **said: Any) -> Result:
        """What a case comes to; unless it says otherwise, it is plain HTTP to the function."""
        request = {"headers": {"x-do": action, **(headers or {})}, **said.pop("request", {})}
        line = {"name": "a case", "phase": "route", "expect": {}, "request": request, **said}
        (case,) = cases.parse(json.dumps(line), "cases")
        return await trial.run(case, self.ready, self.local)


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    folder: Path = tmp_path_factory.mktemp("probe")
    (folder / "function.toml").write_text(MANIFEST)
    (folder / "probe.js").write_text(PROBE)
    found = project.find(folder)
    with Local(found, Functions(), SystemClock()) as local:
        yield Probe(local, asyncio.run(local.ready(found.read())))
