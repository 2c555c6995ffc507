"""A real server on loopback, which the operator of these tests has opened."""

import asyncio
import threading

import pytest

from edgecache.functions.manifest import Allow
from edgecache.wasm.hostcalls import Code

OK = b"HTTP/1.1 200 OK\r\nX-One: 1\r\nX-One: 2\r\nContent-Length: 5\r\n\r\nhello"


class Server:
    """Answers what it is told to; never, if that is nothing."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.left = threading.Event()

    async def start(self, answer: bytes) -> None:
        self.answer = answer
        self.server = await asyncio.start_server(self.connected, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.append(await reader.readuntil(b"\r\n\r\n"))
        if self.answer:
            writer.write(self.answer)
        else:
            await reader.read()
            self.left.set()
        writer.close()

    async def stop(self) -> None:
        self.server.close()


@pytest.fixture
def serve(loop_beside):
    """Starts servers; each answers one thing."""
    running: list[Server] = []

    def start(answer: bytes = OK) -> Server:
        server = Server()
        asyncio.run_coroutine_threadsafe(server.start(answer), loop_beside).result(5)
        running.append(server)
        return server

    yield start
    for server in running:
        asyncio.run_coroutine_threadsafe(server.stop(), loop_beside).result(5)


def allowing(server: Server) -> Allow:
    return Allow(fetch=(f"http://api.example:{server.port}",))


def test_it_fetches(bench, ask, serve) -> None:
    server = serve()
    url = f"http://api.example:{server.port}/v1?q=1"
    found = ask(bench.host(allowing(server)), "fetch", "POST", url, b"\xff", "x-key", "v", "host", "evil")
    assert found[:2] == [b"200", b"hello"]
    assert found[2:6] == [b"X-One", b"1", b"X-One", b"2"]
    assert server.seen[0].startswith(b"POST /v1?q=1 HTTP/1.1\r\n")
    assert b"x-key: v\r\n" in server.seen[0]
    assert b"evil" not in server.seen[0]


def test_only_what_is_granted(bench, refusal, serve) -> None:
    server = serve()
    code, message = refusal(bench.host(allowing(server)), "fetch", "GET", "http://other.example/secret?token=1", "")
    assert code is Code.DENIED
    assert message == (
        "fetching from http://other.example is not granted: "
        'write fetch = ["http://other.example"] under [allow] in function.toml'
    )
    for url in (f"http://127.0.0.1:{server.port}/", f"https://api.example:{server.port}/", "http://api.example/"):
        assert refusal(bench.host(allowing(server)), "fetch", "GET", url, "")[0] is Code.DENIED
    assert server.seen == []


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "[::1]", "[64:ff9b::a00:1]"])
def test_a_grant_leads_nowhere_private(bench, refusal, host: str) -> None:
    code, message = refusal(bench.host(Allow(fetch=(f"http://{host}",))), "fetch", "GET", f"http://{host}/", "")
    assert code is Code.DENIED
    assert "may not connect to" in message


@pytest.mark.parametrize(
    "fields",
    [
        ("GET", "http://127.1/", ""),
        ("GET", "file:///etc/passwd", ""),
        ("GET", "http://a.example/\r\nx: y", ""),
        ("BREW", "http://a.example/", ""),
        ("GET", "http://a.example/", "", "x"),
        ("GET", "http://a.example/", "", "x", "a\r\nb"),
        ("GET", b"http://a.example/\xff", ""),
        ("GET", "http://a.example/", "", b"\xff", "a"),
    ],
)
def test_what_is_malformed_is_invalid(bench, refusal, fields) -> None:
    assert refusal(bench.host(Allow(fetch=("http://a.example",))), "fetch", *fields)[0] is Code.INVALID


def test_a_redirect_is_the_functions_to_follow(bench, ask, refusal, serve) -> None:
    server = serve(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n")
    host = bench.host(allowing(server))
    found = ask(host, "fetch", "GET", f"http://api.example:{server.port}/", "")
    assert found == [b"302", b"", b"Location", b"http://169.254.169.254/", b"Content-Length", b"0"]
    assert refusal(host, "fetch", "GET", found[3], "")[0] is Code.DENIED


def test_an_answer_larger_than_the_budget_is_not_read(bench, refusal, serve) -> None:
    server = serve(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(100_000))
    host = bench.host(allowing(server), host_bytes=50_000)
    code, message = refusal(host, "fetch", "GET", f"http://api.example:{server.port}/", "")
    assert code is Code.QUOTA
    assert "bytes that were left" in message
    assert host.budget.moved < 1000


def test_a_slow_server_is_left_when_time_is_up(bench, refusal, serve) -> None:
    server = serve(b"")
    host = bench.host(allowing(server), seconds=0.1)
    assert refusal(host, "fetch", "GET", f"http://api.example:{server.port}/", "")[0] is Code.TIMEOUT
    assert server.left.wait(5)


def test_a_server_that_is_not_there(bench, refusal, serve, loop_beside) -> None:
    server = serve()
    asyncio.run_coroutine_threadsafe(server.stop(), loop_beside).result(5)
    host = bench.host(allowing(server))
    assert refusal(host, "fetch", "GET", f"http://api.example:{server.port}/", "")[0] is Code.UNAVAILABLE


def test_many_at_once(bench, ask, serve) -> None:
    server = serve()
    answers: list[list[bytes]] = []

    def work() -> None:
        url = f"http://api.example:{server.port}/"
        answers.append(ask(bench.host(allowing(server)), "fetch", "GET", url, ""))

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer[1] for answer in answers] == [b"hello"] * 20
