"""`edgecache serve` as a process, `edgecache fn` beside it, and clients: as developers, users and attackers have it."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import msgspec
from openai import AsyncOpenAI
from wasmtime import wat2wasm

from edgecache.clock import SystemClock
from edgecache.sim.pop import Pop, own_pop
from tests.conftest import MODEL

ROOT = "/admin/v1/functions"
QUICK = """
[embed]
model = "hashing"
deadline = 5.0
[store]
sync = false
[core]
time_to_first_token = 0.0
inter_token_latency = 0.0
[log]
access = false
"""
"""A POP that starts in a second and whose cluster answers at once."""
Answer = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body."""


class Served:
    """A running POP. `token` is the admin token, `key` the API key of whoever says nothing else."""

    def __init__(
        self, pop: Pop, session: aiohttp.ClientSession, admin: httpx.AsyncClient, *, token: str = "", key: str = ""
    ) -> None:
        self.pop = pop
        self.session = session
        self._admin = admin
        self.token = token
        self.key = key

    # ------------------------------------------------------------------------------------------ its developers
    async def begun(self, folder: Path, *arguments: str) -> asyncio.subprocess.Process:
        """`edgecache fn ARGUMENTS`, running in `folder`."""
        options = ("--admin", self.pop.admin.removeprefix("http://")) if arguments[0] not in _AT_HOME else ()
        token = ("--token", self.token) if options and self.token else ()
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edgecache", "fn", *arguments, *options, *token),
            cwd=folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def fn(self, folder: Path, *arguments: str, typed: str = "", status: int = 0) -> str:
        """What `edgecache fn ARGUMENTS` prints; it ends with `status`."""
        process = await self.begun(folder, *arguments)
        out, err = await process.communicate(typed.encode())
        assert process.returncode == status, (arguments, out.decode(), err.decode())
        return (out if status == 0 else err).decode()

    async def told(self, folder: Path, *arguments: str, typed: str = "") -> Any:
        """What it says with `--json`."""
        return json.loads(await self.fn(folder, *arguments, "--json", typed=typed))

    async def admin(self, method: str, path: str = "", *, token: str | None = None, **more: Any) -> httpx.Response:
        """One request to the admin API of functions."""
        bearer = self.token if token is None else token
        headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
        return await self._admin.request(method, ROOT + path, headers=headers, **more)

    async def upload(
        self, manifest: Mapping[str, Any], artefact: bytes, *, token: str | None = None, **parts: str
    ) -> httpx.Response:
        """`fn deploy` without its process."""
        files: dict[str, Any] = {"manifest": (None, msgspec.json.encode(manifest)), "artefact": (None, artefact)}
        files |= {name: (None, value) for name, value in parts.items()}
        return await self.admin("POST", token=token, files=files)

    async def deploy(self, manifest: Mapping[str, Any], artefact: bytes, **more: Any) -> dict[str, Any]:
        """An upload that is taken."""
        answer = await self.upload(manifest, artefact, **more)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    @asynccontextmanager
    async def having(self, manifest: Mapping[str, Any], artefact: bytes, **more: Any) -> AsyncIterator[dict[str, Any]]:
        """A function that is deleted at the end."""
        made = await self.deploy(manifest, artefact, **more)
        try:
            yield made
        finally:
            await self.admin("DELETE", f"/{manifest['name']}", token=more.get("token"))

    # ------------------------------------------------------------------------------------------ its users
    def sdk(self, **headers: str) -> AsyncOpenAI:
        """OpenAI's client."""
        return AsyncOpenAI(
            base_url=self.pop.url + "/v1", api_key=self.key or "none", max_retries=0, default_headers=headers
        )

    async def get(self, path: str, *, method: str = "GET", key: str | None = None, **more: Any) -> Answer:
        """One request to the public API."""
        bearer = self.key if key is None else key
        headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
        headers |= more.pop("headers", {})
        async with self.session.request(method, self.pop.url + path, headers=headers, **more) as response:
            return response.status, response.headers, await response.read()

    async def ask(self, question: str, *, key: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """A chat request."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": question}]}
        return await self.get("/v1/chat/completions", method="POST", key=key, json=body, headers=dict(headers or {}))

    async def hit(self, question: str, **more: Any) -> Answer:
        """The answer to `question` once it comes from the cache: copies are made a moment after the answer."""
        async with asyncio.timeout(10):
            while True:
                answer = await self.ask(question, **more)
                assert answer[0] == 200, answer
                if answer[1].get("x-edgecache-status") == "HIT":
                    return answer


_AT_HOME = ("new", "templates", "build", "validate", "inspect", "test", "bench")
"""Commands that need no POP."""


@asynccontextmanager
async def serving(config: Path, *, data: Path | None = None, **more: Any) -> AsyncIterator[Served]:
    """A POP with this configuration, stopped at the end; it may not have stopped a prompt at a border."""
    async with (
        own_pop(["--config", str(config)], data=data) as pop,
        aiohttp.ClientSession() as session,
        httpx.AsyncClient(base_url=pop.admin, timeout=60) as admin,
    ):
        yield Served(pop, session, admin, **more)
        with suppress(httpx.TransportError):  # a test may have killed it
            assert "\nedgecache_residency_violations_total 0.0\n" in (await admin.get("/metrics")).text


def saying(text: str, status: int = 204) -> bytes:
    """A core module that answers every request with `x-said: TEXT` and no body."""
    answer = f"{status}\nx-said: {text}\n\n".encode()
    data = "".join(f"\\{byte:02x}" for byte in answer)
    return bytes(
        wat2wasm(
            f"""(module (memory (export "memory") 1) (data (i32.const 16) "{data}")
        (func (export "alloc") (param i32) (result i32) i32.const 1024)
        (func (export "handle") (param i32 i32) (result i64) i64.const {16 << 32 | len(answer)}))"""
        )
    )


def text_of(body: bytes) -> str:
    """What an answer says."""
    return str(json.loads(body)["choices"][0]["message"]["content"])


def error_of(body: bytes) -> tuple[str, str]:
    """Code and message of an error on the public API."""
    error = json.loads(body)["error"]
    return error["code"], error["message"]


class Neighbour:
    """Somebody else's requests, one after the other on each of `many` connections, and how long each took."""

    def __init__(self, served: Served, question: str, *, key: str, many: int = 2) -> None:
        self.served = served
        self.question = question
        self.key = key
        self.many = many
        self.took: list[float] = []
        self.wrong: list[Any] = []
        self._over = False

    @asynccontextmanager
    async def busy(self) -> AsyncIterator["Neighbour"]:
        """They ask all the while."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.many):
                group.create_task(self._asks())
            try:
                yield self
            finally:
                self._over = True

    async def _asks(self) -> None:
        clock = SystemClock()
        while not self._over:
            begun = clock.monotonic()
            status, headers, body = await self.served.ask(self.question, key=self.key)
            self.took.append(clock.monotonic() - begun)
            if (status, headers.get("x-edgecache-status")) != (200, "HIT"):
                self.wrong.append((status, body))

    def p(self, share: float) -> float:
        """The s within which `share` of the answers came."""
        return sorted(self.took)[min(len(self.took) - 1, int(share * len(self.took)))]
