"""An engine for all tests of this folder, and guests written in WebAssembly's text form."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wasmtime import wat2wasm

from edgecache.wasm.base import Headers, Limits, Request
from edgecache.wasm.engine import Engine

TICK = 0.001
LIMITS = Limits(cpu=0.05, wall=5.0, memory=8 * 1024 * 1024)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """As a POP has it, but smaller."""
    made = Engine(instances=16, memory=16 * 1024 * 1024, tick=TICK)
    yield made
    made.close()


@pytest.fixture
def compiled(engine: Engine, tmp_path: Path) -> Callable[[str], Path]:
    """Compiles a module or component in text form to a file of machine code."""

    def compile_text(text: str) -> Path:
        wasm = bytes(wat2wasm(text))
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.cwasm"
        path.write_bytes((engine.compile_component if wasm[4] == 13 else engine.compile_module)(wasm))
        return path

    return compile_text


def request(body: bytes = b"", headers: Headers = (), **more: object) -> Request:
    """A request to a function."""
    return Request("POST", "/v1/chat/completions", headers, body, 1_700_000_000_000_000_000, bytes(32), **more)  # type: ignore[arg-type]


class Scripted:
    """A host that answers by a function of op and argument, and remembers what it was asked."""

    def __init__(self, answer: Callable[[str, bytes], bytes] = lambda _op, _argument: b"=") -> None:
        self.answer = answer
        self.asked: list[tuple[str, bytes]] = []

    def call(self, op: str, argument: bytes) -> bytes:
        """What a program asks of its host."""
        self.asked.append((op, argument))
        return self.answer(op, argument)


def component(handle: str, *, before: str = "", start: str = "") -> str:
    """A composed component in text form, as `ComponentProgram` takes it.

    `handle` is the body of the core function of (meta, meta length, body, body length) that returns where the two
    strings are: $pair has room for that, and `(call $give pointer length pointer length)` fills it in.
    """
    return f"""
(component
  (import "edgecache:adapter/host@0.1.0" (instance $host
    (export "call" (func (param "op" string) (param "arg" string) (result string)))))
  (core module $libc
    (memory (export "memory") 1)
    (global $top (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
      (global.set $top (i32.add (local.get $at) (local.get 3)))
      (block $enough
        (br_if $enough (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $enough (i32.ne (i32.const -1) (memory.grow (i32.add (i32.const 1)
          (i32.div_u (local.get 3) (i32.const 65536))))))
        unreachable)
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (core func $call (canon lower (func $host "call")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core module $main
    (import "libc" "memory" (memory 1))
    (import "host" "call" (func $call (param i32 i32 i32 i32 i32)))
    {before}
    (func $give (param i32 i32 i32 i32) (result i32)
      (i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1))
      (i32.store (i32.const 24) (local.get 2)) (i32.store (i32.const 28) (local.get 3))
      (i32.const 16))
    (func $begin {start}) (start $begin)
    (func (export "handle") (param i32 i32 i32 i32) (result i32) {handle}))
  (core instance $main (instantiate $main
    (with "libc" (instance $libc)) (with "host" (instance (export "call" (func $call))))))
  (func (export "handle") (param "meta" string) (param "body" string) (result (tuple string string))
    (canon lift (core func $main "handle")
      (memory (core memory $libc "memory")) (realloc (core func $libc "realloc")))))
"""


def core(handle: str, *, before: str = "", start: str = "", alloc: str = "", memory: str = "1") -> str:
    """A module of the fast lane in text form; `handle` is the body of its function of (pointer, length) -> i64."""
    return f"""
(module
  {before}
  (memory (export "memory") {memory})
  (global $top (mut i32) (i32.const 1024))
  (func $alloc (export "alloc") (param i32) (result i32) (local $at i32)
    {alloc}
    (local.set $at (global.get $top))
    (global.set $top (i32.add (global.get $top) (local.get 0)))
    (local.get $at))
  (func $answer (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1))))
  (func $begin {start}) (start $begin)
  (func (export "handle") (param i32 i32) (result i64) {handle}))
"""
