"""A worker process: runs the functions of one group of tenants that trust each other, and nothing else.

`remote` starts it. It has one thread a channel; host calls go back to the daemon over the channel of their call. Code
comes over a channel too, as a descriptor: a worker can open no other function's. It ends when the daemon does, whatever
its threads are doing.
"""

import faulthandler
import os
import socket
import threading
from pathlib import Path

import msgspec

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm import child
from edgecache.wasm.base import Host, Program
from edgecache.wasm.engine import Engine
from edgecache.wasm.frames import (
    LARGEST_ARGUMENT,
    Answer,
    Channel,
    Done,
    Failed,
    Fine,
    FromWorker,
    HostCall,
    Load,
    Run,
    ToWorker,
    Unload,
)
from edgecache.wasm.load import program


class Setup(msgspec.Struct, frozen=True):
    """What a worker is told: its sockets, whose child it is, and the engine's settings."""

    control: int
    channels: tuple[int, ...]
    parent: int
    memory: int
    tick: float


def main(arguments: list[str]) -> None:
    """Work until the daemon closes the control socket."""
    setup = msgspec.json.decode(arguments[0], type=Setup)
    control = socket.socket(fileno=setup.control)
    threading.excepthook = _end
    child.dies_with_parent(setup.parent)
    child.limit(file=setup.memory, descriptors=64 + len(setup.channels))
    faulthandler.enable()  # before the engine, which asks for it
    child.confine()
    engine = Engine(instances=len(setup.channels), memory=setup.memory, tick=setup.tick)
    programs: dict[int, Program] = {}
    for number in setup.channels:
        channel: Channel[ToWorker] = Channel(socket.socket(fileno=number), ToWorker)
        threading.Thread(target=_serve, args=(channel, engine, programs), daemon=True).start()
    control.sendall(b"!")
    control.recv(1)
    os._exit(0)


def _end(_: threading.ExceptHookArgs) -> None:
    """A bug in a thread: better no worker than one that answers no more."""
    faulthandler.dump_traceback()
    os._exit(70)


def _serve(channel: Channel[ToWorker], engine: Engine, programs: dict[int, Program]) -> None:
    while (message := channel.receive(body=1 << 31)) is not None:
        try:
            answer = _answer(message, channel, engine, programs)
        except FunctionFault as fault:
            answer = Failed(fault.fault, fault.message)
        channel.send(answer)


def _answer(message: ToWorker, channel: Channel[ToWorker], engine: Engine, programs: dict[int, Program]) -> FromWorker:
    match message:
        case Load(key, artefact):
            with os.fdopen(channel.handed(), "rb") as code:
                programs[key] = program(engine, artefact, Path(f"/proc/self/fd/{code.fileno()}"))
            return Fine()
        case Unload(key):
            programs.pop(key).close()
            return Fine()
        case Run(key, limits=limits, hosted=hosted):
            return Done.of(programs[key].run(message.whole(), limits, _Proxy(channel) if hosted else None))
        case _:
            raise ValueError(f"an unexpected {type(message).__name__}")


class _Proxy(Host):
    """The daemon's host, over the channel of the call."""

    def __init__(self, channel: Channel[ToWorker]) -> None:
        self._channel = channel

    def call(self, op: str, argument: bytes) -> bytes:
        """Ask the daemon."""
        if len(argument) > LARGEST_ARGUMENT:
            raise FunctionFault(
                Fault.BUDGET,
                f"`{op}` with {len(argument):,} bytes; from a worker process a host call takes {LARGEST_ARGUMENT:,}",
            )
        self._channel.send(HostCall(op, argument))
        match self._channel.receive(body=1 << 31):
            case Answer(content):
                return content
            case Failed(fault, message):
                raise FunctionFault(fault, message)
            case _:
                raise SystemExit(1)
