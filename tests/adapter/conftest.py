"""The guest in `guests/conformance.c`, which does what its path says, and a host that answers it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgecache.wasm.base import Headers, Limits, Request, Response, pack, unpack
from edgecache.wasm.component import ComponentProgram
from edgecache.wasm.compose import compose
from edgecache.wasm.engine import Engine

GUESTS = Path(__file__).parent / "guests"
LIMITS = Limits(cpu=2.0, wall=10.0, memory=48 * 1024 * 1024)
NOW = 1_700_000_000_123_456_789
SEED = bytes(range(32))

Answering = Callable[..., bytes]


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    made = Engine(instances=8, memory=64 * 1024 * 1024, tick=0.001)
    yield made
    made.close()


@pytest.fixture(scope="session")
def load(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], ComponentProgram]:
    """Composes and compiles a component."""
    folder = tmp_path_factory.mktemp("code")

    def loaded(wasm: bytes) -> ComponentProgram:
        code = folder / f"{len(list(folder.iterdir()))}.cwasm"
        code.write_bytes(engine.compile_component(compose(wasm)))
        return ComponentProgram(engine, code)

    return loaded


@pytest.fixture(scope="session")
def guest(load: Callable[[bytes], ComponentProgram]) -> ComponentProgram:
    return load((GUESTS / "conformance.wasm").read_bytes())


class Host:
    """Answers by op; remembers op and fields of every call."""

    def __init__(self, **answers: Answering) -> None:
        self.answers = {name.replace("_", "."): answer for name, answer in answers.items()}
        self.asked: list[tuple[str, list[bytes]]] = []

    def call(self, op: str, argument: bytes) -> bytes:
        fields = unpack(argument)
        self.asked.append((op, fields))
        answer = self.answers.get(op)
        return answer(*fields) if answer else b"="

    def all(self, op: str) -> list[list[bytes]]:
        return [fields for asked, fields in self.asked if asked == op]


def refuse(code: str, message: str = "no") -> bytes:
    return f"!{code}\n{message}".encode()


def give(*fields: bytes) -> bytes:
    return b"=" + pack(*fields)


def request(path: str, body: bytes = b"", headers: Headers = (), method: str = "POST", **more: object) -> Request:
    values = {"now": NOW, "seed": SEED, **more}
    return Request(method, path, headers, body, **values)  # type: ignore[arg-type]


def told(response: Response) -> dict[str, str]:
    """The lines `name value` of an answer of the guest."""
    pairs = [line.partition(" ") for line in response.body.decode("latin-1").splitlines()]
    return {name: value for name, _, value in pairs}


def lines(response: Response) -> list[str]:
    return response.body.decode("latin-1").splitlines()
