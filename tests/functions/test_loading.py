import asyncio

import pytest

from edgecache.config.tree import Functions
from edgecache.errors import Fault, FunctionFault, FunctionRefused
from edgecache.functions.graveyard import Graveyard
from edgecache.functions.loading import Loader
from edgecache.functions.manifest import Build, Manifest, Quotas
from edgecache.functions.versions import artefact_digest
from edgecache.tasks import Tasks
from edgecache.wasm.base import Limits, Request
from edgecache.wasm.compiler import Compiler

MANIFEST = Manifest(name="f", build=Build(command="make"))


class Bench:
    """A loader with a compiler behind it; `used` are the artefacts of versions that are kept."""

    def __init__(self, home, settings: Functions) -> None:
        self.home = home
        self.tasks = Tasks()
        self.compiler = Compiler(home.folder, settings, key=bytes(32), fingerprint=home.engine.fingerprint)
        self.used: set[str] = set()
        self.failing = False
        self.graveyard = Graveyard(self.tasks)
        self.loader = Loader(
            self.compiler, self.load, self.graveyard, used=lambda: self.used, settings=settings, clock=home.clock
        )

    def load(self, artefact, group: str | None):
        if self.failing:
            raise FunctionFault(Fault.LOAD, "as told")
        return self.home.load(artefact, group)

    async def kept(self) -> frozenset[str]:
        return await self.loader.kept()


@pytest.fixture
async def bench(home):
    made = Bench(home, Functions())
    yield made
    await asyncio.sleep(0)
    await made.graveyard.close()
    await made.tasks.close()


async def test_an_upload_becomes_a_version_that_can_be_loaded_again(bench, guest) -> None:
    wasm = guest("one")
    async with bench.loader.holding(wasm) as digest:
        upload = await bench.loader.upload("acme", MANIFEST, wasm)
        bench.used.add(digest)
    assert digest == artefact_digest(wasm)
    version = upload.version("acme", 3, "ab" * 32, 5.0)
    assert (version.tenant, version.name, version.number, version.created) == ("acme", "f", 3, 5.0)
    assert version.manifest == Manifest(name="f")  # how it was built stays at home
    assert version.code == upload.artefact.bytes > 0
    upload.program.close()
    loaded = await bench.loader.stored(version)
    assert loaded.program.run(Request("GET", "/", (), b"", 0, bytes(32)), Limits()).body == b"one"
    loaded.release()


async def test_what_no_version_uses_is_gone_when_nobody_holds_it(bench, guest) -> None:
    wasm = guest("one")
    async with bench.loader.holding(wasm) as digest, bench.loader.holding(wasm):
        (await bench.loader.upload("acme", MANIFEST, wasm)).program.close()
        await bench.loader.forget([digest])
        assert await bench.kept() == {digest}
    assert await bench.kept() == frozenset()


async def test_what_a_version_uses_stays(bench, guest) -> None:
    wasm = guest("one")
    bench.used.add(artefact_digest(wasm))
    async with bench.loader.holding(wasm) as digest:
        (await bench.loader.upload("acme", MANIFEST, wasm)).program.close()
    assert await bench.kept() == {digest}
    bench.used.clear()
    await bench.loader.forget([digest])
    assert await bench.kept() == frozenset()


async def test_too_much_memory_at_the_start_is_told_before_anything_is_loaded(bench, guest) -> None:
    with pytest.raises(FunctionRefused, match=r"1,048,576 too many") as caught:
        await bench.loader.upload("acme", Manifest(name="f", limits=Quotas(memory_mb=1)), guest("one", memory=32))
    assert caught.value.code == "memory"
    assert bench.home.isolated == []


async def test_what_cannot_be_loaded_is_refused_or_stood_in_for(bench, guest) -> None:
    upload = await bench.loader.upload("acme", MANIFEST, guest("one"))
    upload.program.close()
    version = upload.version("acme", 1, "ab" * 32, 5.0)
    bench.failing = True
    with pytest.raises(FunctionRefused, match="it cannot be loaded: as told"):
        await bench.loader.upload("acme", MANIFEST, guest("one"))
    with pytest.raises(FunctionRefused, match="f@1 cannot be loaded: as told"):
        await bench.loader.stored(version)
    loaded, trouble = await bench.loader.attempted(version)
    assert trouble == "f@1 cannot be loaded: as told"
    with pytest.raises(FunctionFault, match="as told"):
        loaded.program.run(Request("GET", "/", (), b"", 0, bytes(32)), Limits())
