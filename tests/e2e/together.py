"""Servers that keep everybody waiting until all of them have been asked, and then answer in the same moment."""

import asyncio
import json
from types import TracebackType
from typing import Any, Self

PROMPT, COMPLETION = 7, 2
"""Tokens of every answer."""


class Together:
    """`many` servers on free ports; each says something of its own to every request."""

    def __init__(self, many: int) -> None:
        self.urls: list[str] = []
        self._many = many
        self._servers: list[asyncio.Server] = []
        self._asked = 0
        self._all = asyncio.Event()

    def said(self, name: str) -> str:
        """What the server says that is known as `name`: they are numbered `one`, `other`."""
        return f"Number {('one', 'other').index(name)}."

    async def __aenter__(self) -> Self:
        for number in range(self._many):
            server = await asyncio.start_server(self._connection(number), "127.0.0.1", 0)
            self._servers.append(server)
            self.urls.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()

    def _connection(self, number: int) -> Any:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await self._turn(reader, writer, number):
                    pass
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        return talk

    async def _turn(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if not head.startswith("post"):
            writer.write(_http(b'{"data":[{"id":"edge-test"}]}', "application/json"))
            return True
        length = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
        body = json.loads(await reader.readexactly(int(length.partition(":")[2])))
        await self._meet()
        writer.write(_answer(f"Number {number}.", stream=body.get("stream") is True))
        return True

    async def _meet(self) -> None:
        """Until all have been asked."""
        self._asked += 1
        waiting = self._all
        if self._asked == self._many:
            self._asked, self._all = 0, asyncio.Event()
            waiting.set()
        await waiting.wait()


def _answer(text: str, *, stream: bool) -> bytes:
    usage = {"prompt_tokens": PROMPT, "completion_tokens": COMPLETION, "total_tokens": PROMPT + COMPLETION}
    if not stream:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": "edge-test", "choices": [choice]}
        return _http(json.dumps({**body, "usage": usage}).encode(), "application/json")
    one, two = text.split(" ")
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, {"content": one}, {"content": " " + two}]
    choices = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    choices += [[{"index": 0, "delta": {}, "finish_reason": "stop"}], []]
    common = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "edge-test"}
    chunks: list[dict[str, Any]] = [{**common, "choices": each} for each in choices]
    chunks[-1]["usage"] = usage
    events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return _http("".join([*events, "data: [DONE]\n\n"]).encode(), "text/event-stream")


def _http(body: bytes, kind: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
