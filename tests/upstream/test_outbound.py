"""Real servers on loopback, which the operator of these tests has opened; and names that lie."""

import asyncio
import contextlib
import datetime as dt
import gzip
import socket
import ssl
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgecache.errors import TooLarge, UpstreamDied, UpstreamTimeout, UpstreamUnreachable
from edgecache.upstream.network import Reach
from edgecache.upstream.outbound import METHODS, Outbound, outgoing
from edgecache.upstream.target import OutOfReach, TargetRefused

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"


class Zone:
    """Names with scripted addresses: each look-up takes the next answer, and the last one stays."""

    def __init__(self, *answers: str) -> None:
        self.answers = [[ip_address(text) for text in answer.split()] for answer in answers]
        self.asked: list[str] = []

    async def addresses(self, host: str, _port: int, _owner: str):
        self.asked.append(host)
        found = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return found


@pytest.fixture
def outbound():
    return Outbound(Reach(["127.0.0.0/8"]), Zone("127.0.0.1"), most=1024 * 1024)


async def head_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def fetch(outbound, url: str, method: str = "GET", headers=(), body=b"", *, most=100_000, timeout=5.0):
    return await outbound.fetch(outgoing(method, url, headers, body), owner="acme", most=most, timeout=timeout)


def answering(answer: bytes, seen: list[bytes] | None = None):
    async def script(reader, writer, _number) -> None:
        head = await head_of(reader)
        if seen is not None:
            seen.append(head)
        writer.write(answer)
        await writer.drain()

    return script


async def test_it_fetches(raw_server, outbound) -> None:
    seen: list[bytes] = []
    url = await raw_server(answering(OK, seen))
    found = await fetch(outbound, url + "/a%20b?c=%2F&d", "POST", [("x-one", "1"), ("X-One", "2")], b"\x00\xff")
    assert (found.status, found.body) == (200, b"hello")
    assert (b"Content-Type", b"text/plain") in found.headers
    head = seen[0].decode()
    assert head.startswith("POST /a%20b?c=%2F&d HTTP/1.1\r\n")
    assert "x-one: 1\r\nx-one: 2\r\n" in head
    assert "Content-Length: 2\r\n" in head
    assert "accept-encoding: identity" in head
    assert "user-agent: edgecache/" in head
    assert "cookie" not in head.lower()


@pytest.mark.parametrize("method", sorted(METHODS))
async def test_every_method(raw_server, outbound, method: str) -> None:
    answer = OK if method != "HEAD" else OK.removesuffix(b"hello")
    seen: list[bytes] = []
    url = await raw_server(answering(answer, seen))
    found = await fetch(outbound, url, method, most=5)
    assert (found.status, found.body) == (200, b"" if method == "HEAD" else b"hello")
    assert seen[0].startswith(method.encode() + b" / HTTP/1.1\r\n")


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "get", "", "GET / HTTP/1.1\r\nx: ", "G\u0415T", "PRI"])
def test_no_other(method: str) -> None:
    with pytest.raises(TargetRefused, match="not one of"):
        outgoing(method, "http://a.example/")


@pytest.mark.parametrize(
    "name", "Host Connection Keep-Alive TE Trailer Transfer-Encoding Upgrade Content-Length Expect".split()  # noqa: SIM905
)  # fmt: skip
async def test_what_belongs_to_the_connection_is_left_out(raw_server, outbound, name: str) -> None:
    seen: list[bytes] = []
    url = await raw_server(answering(OK, seen))
    await fetch(outbound, url, headers=[(name, "evil"), (name.upper(), "evil"), ("Proxy-Authorization", "evil")])
    assert b"evil" not in seen[0]
    assert b"Host: 127.0.0.1:" in seen[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x\r\nhost", "a"),
        ("x", "a\r\nhost: b"),
        ("x", "a\nb"),
        ("x", "a\x00b"),
        ("x", "a\x7f"),
        ("", "a"),
        ("a b", "c"),
        ("a:", "c"),
        ("h\u00f6st", "c"),
        ("x", "\ud800"),
    ],
)
def test_headers_that_are_not_headers_are_refused(name: str, value: str) -> None:
    with pytest.raises(TargetRefused, match="header"):
        outgoing("GET", "http://a.example/", [(name, value)])


def test_too_many_headers_are_refused() -> None:
    with pytest.raises(TargetRefused, match="101 header fields with 404 characters, of at most 100"):
        outgoing("GET", "http://a.example/", [(f"x{index:02}", "v")[:2] for index in range(100)] + [("abc", "d")] * 1)
    with pytest.raises(TargetRefused, match="20001 characters, of at most 100 with 16384"):
        outgoing("GET", "http://a.example/", [("x", "v" * 20_000)])


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::127.0.0.1]/",
        "http://[2002:7f00:1::]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://0.0.0.0/",
        "http://10.0.0.1:6379/",
        "http://100.100.100.200/",
        "https://168.63.129.16/",
    ],
)
async def test_addresses_that_are_not_public_are_not_connected_to(url: str) -> None:
    with pytest.raises(OutOfReach, match="may not connect to"):
        await fetch(Outbound(Reach(), Zone(""), most=10), url)


@pytest.mark.parametrize(
    "answer",
    ["127.0.0.1", "8.8.8.8 10.0.0.1", "10.0.0.1 8.8.8.8", "8.8.8.8 ::1", "::ffff:169.254.169.254", "fe80::1%2"],
)
async def test_one_bad_address_of_a_name_spoils_it(answer: str) -> None:
    zone = Zone(answer)
    with pytest.raises(OutOfReach, match=r"^rebound\.example has an address"):
        await fetch(Outbound(Reach(), zone, most=10), "http://rebound.example/")
    assert zone.asked == ["rebound.example"]


async def test_a_name_that_changes_its_address_is_asked_once(raw_server) -> None:
    """DNS rebinding: the second answer would lead elsewhere, and nobody hears it."""
    url = await raw_server(answering(OK))
    port = url.rpartition(":")[2]
    zone = Zone("127.0.0.1", "169.254.169.254")
    outbound = Outbound(Reach(["127.0.0.1/32"]), zone, most=100)
    assert (await fetch(outbound, f"http://rebound.example:{port}/")).body == b"hello"
    assert zone.asked == ["rebound.example"]
    with pytest.raises(OutOfReach, match="cloud metadata"):
        await fetch(outbound, f"http://rebound.example:{port}/")


async def test_the_connection_goes_to_the_address_that_was_checked(raw_server) -> None:
    """`localhost` would be resolved by the system to this very server: only the pinned address counts."""
    url = await raw_server(answering(OK))
    port = url.rpartition(":")[2]
    outbound = Outbound(Reach(["127.0.0.0/8"]), Zone("127.0.0.2"), most=100)
    with pytest.raises(UpstreamUnreachable, match=r"^http://localhost:\d+ cannot be reached"):
        await fetch(outbound, f"http://localhost:{port}/")


async def test_the_host_header_and_the_next_address_of_a_name(raw_server) -> None:
    seen: list[bytes] = []
    port = (await raw_server(answering(OK, seen))).rpartition(":")[2]
    outbound = Outbound(Reach(["127.0.0.0/8"]), Zone("127.0.0.2 127.0.0.1"), most=100)
    assert (await fetch(outbound, f"http://API.example.:{port}/")).status == 200
    assert f"Host: api.example:{port}\r\n".encode() in seen[0]


class Nothing:
    """Knows every name, and no address."""

    async def addresses(self, _host: str, _port: int, _owner: str):
        return []


@pytest.mark.parametrize("names", [Zone(""), Nothing()], ids=["gone", "empty"])
async def test_a_name_without_addresses(names) -> None:
    with pytest.raises(UpstreamUnreachable, match=r"no address for nowhere\.example"):
        await fetch(Outbound(Reach(), names, most=10), "http://nowhere.example/")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_answers(raw_server, outbound, status: int) -> None:
    seen: list[bytes] = []
    location = b"Location: http://169.254.169.254/latest/meta-data/\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    url = await raw_server(answering(b"HTTP/1.1 %d Go\r\n" % status + location, seen))
    found = await fetch(outbound, url)
    assert found.status == status
    assert (b"Location", b"http://169.254.169.254/latest/meta-data/") in found.headers
    await fetch(outbound, url)
    assert len(seen) == 2
    assert b"ookie" not in seen[1]


async def test_connections_are_not_kept(raw_server, outbound) -> None:
    numbers = []

    async def script(reader, writer, number) -> None:
        numbers.append(number)
        assert b"close" in (await head_of(reader)).lower()
        writer.write(OK)
        assert await reader.read() == b""

    url = await raw_server(script)
    for _ in range(3):
        await fetch(outbound, url)
    assert numbers == [1, 2, 3]


async def test_the_environment_names_no_proxy(raw_server, outbound) -> None:
    """`trust_env` is off: with it, aiohttp would ask `urllib.request.getproxies`."""
    session = outbound._session([ip_address("127.0.0.1")])
    assert session.trust_env is False
    await session.close()


# ---------------------------------------------------------------------------------------------- servers that misbehave


async def test_a_server_that_never_answers(raw_server, outbound) -> None:
    ended = asyncio.Event()

    async def script(reader, writer, _number) -> None:
        await head_of(reader)
        await reader.read()
        ended.set()

    url = await raw_server(script)
    with pytest.raises(UpstreamTimeout, match=r"more than the 0\.05 s that were left"):
        await fetch(outbound, url, timeout=0.05)
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_server_that_drips(raw_server, outbound) -> None:
    async def script(reader, writer, _number) -> None:
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.005):
                    await reader.read(1)

    url = await raw_server(script)
    with pytest.raises(UpstreamTimeout):
        await fetch(outbound, url, timeout=0.1)


async def test_a_name_server_that_never_answers() -> None:
    class Silent:
        async def addresses(self, _host: str, _port: int, _owner: str):
            await asyncio.Event().wait()

    with pytest.raises(UpstreamTimeout):
        await fetch(Outbound(Reach(), Silent(), most=1), "http://slow.example/", timeout=0.02)


@pytest.mark.parametrize("head", [b"Transfer-Encoding: chunked\r\n\r\n", b"\r\n"], ids=["chunked", "until closed"])
async def test_an_endless_body(raw_server, outbound, head: bytes) -> None:
    sent = 0

    async def script(reader, writer, _number) -> None:
        nonlocal sent
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + head)
        block = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        while True:
            writer.write(block)
            sent += len(block)
            await writer.drain()

    url = await raw_server(script)
    with pytest.raises(TooLarge, match="more than the 100000 bytes that were left"):
        await fetch(outbound, url)
    assert sent < 16 * 1024 * 1024


async def test_a_body_that_is_announced_as_too_large_is_not_read(raw_server, outbound) -> None:
    url = await raw_server(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n"))
    with pytest.raises(TooLarge, match="more than the 10 bytes"):
        await fetch(outbound, url, most=10)


async def test_a_request_that_is_too_large(outbound) -> None:
    with pytest.raises(TooLarge, match="has 1048577 bytes, of at most 1048576"):
        await fetch(outbound, "http://127.0.0.1:1/", "POST", body=b"x" * (1024 * 1024 + 1))


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
async def test_a_compression_bomb_stays_what_it_is(raw_server, outbound, encoding: str) -> None:
    bomb = gzip.compress(bytes(10 * 1024 * 1024))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(bomb)}\r\n\r\n"
    url = await raw_server(answering(head.encode() + bomb))
    found = await fetch(outbound, url)
    assert found.body == bomb
    assert (b"Content-Encoding", encoding.encode()) in found.headers


@pytest.mark.parametrize(
    "flood",
    [
        b"".join(b"x-%d: a\r\n" % index for index in range(10_000)),
        b"x: a\r\n" * 200,
        b"x: " + b"a" * 100_000 + b"\r\n",
        b"x" * 100_000 + b": a\r\n",
        b"".join(b"x-%d: %s\r\n" % (index, b"a" * 4000) for index in range(50)),
        b"".join(b"x: a\r\n x\r\n" for _ in range(10_000)),
    ],
    ids=["many", "short ones", "long value", "long name", "large together", "folded"],
)
async def test_a_header_flood(raw_server, outbound, flood: bytes) -> None:
    url = await raw_server(answering(b"HTTP/1.1 200 OK\r\n" + flood + b"\r\n"))
    with pytest.raises((UpstreamDied, TooLarge)):
        await fetch(outbound, url)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"+PONG\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\x00b\r\n\r\n",
        b"HTTP/9.9 200\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
        b"\xff" * 1000,
    ],
)
async def test_a_server_that_does_not_end_its_answer_or_speaks_something_else(raw_server, outbound, answer) -> None:
    url = await raw_server(answering(answer))
    with pytest.raises(UpstreamDied, match="broke off"):
        await fetch(outbound, url)


async def test_a_protocol_that_nobody_asked_for(raw_server, outbound) -> None:
    url = await raw_server(answering(b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nhello"))
    with pytest.raises(UpstreamDied, match="switched to a protocol"):
        await fetch(outbound, url)


async def test_a_closed_port(outbound) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UpstreamUnreachable, match="cannot be reached"):
        await fetch(outbound, f"http://127.0.0.1:{port}/")


async def test_giving_up_hangs_up(raw_server, outbound) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def script(reader, writer, _number) -> None:
        await head_of(reader)
        started.set()
        await reader.read()
        ended.set()

    work = asyncio.get_running_loop().create_task(fetch(outbound, await raw_server(script)))
    await started.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await asyncio.wait_for(ended.wait(), 5)


async def test_many_at_once(raw_server, outbound) -> None:
    url = await raw_server(answering(OK))
    found = await asyncio.gather(*(fetch(outbound, f"{url}/{index}") for index in range(100)))
    assert {each.body for each in found} == {b"hello"}


# ------------------------------------------------------------------------------------------------------------- TLS


def certificate(folder, name: str):
    """A self-signed certificate for `name`: server context, and client context that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cadata=made.public_bytes(serialization.Encoding.PEM).decode())


@pytest.fixture
async def tls_server(tmp_path):
    """A TLS server for api.example on loopback: its port, the names it was asked for, and who trusts it."""
    context, trusting = certificate(tmp_path, "api.example")
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)

    async def connected(reader, writer) -> None:
        await head_of(reader)
        writer.write(OK)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1], asked, trusting
    server.close()


async def test_certificates_are_verified_for_the_name(tls_server) -> None:
    port, asked, trusting = tls_server
    trusts = Outbound(Reach(["127.0.0.1/32"]), Zone("127.0.0.1"), most=100, tls=trusting)
    assert (await fetch(trusts, f"https://api.example:{port}/")).body == b"hello"
    assert asked == ["api.example"]
    with pytest.raises(UpstreamUnreachable, match="certificate is not valid for that name"):
        await fetch(trusts, f"https://other.example:{port}/")
    with pytest.raises(UpstreamUnreachable, match="certificate is not valid for that name"):
        await fetch(trusts, f"https://127.0.0.1:{port}/")


async def test_strangers_are_not_trusted(tls_server) -> None:
    port, _, _ = tls_server
    outbound = Outbound(Reach(["127.0.0.1/32"]), Zone("127.0.0.1"), most=100)
    with pytest.raises(UpstreamUnreachable, match="certificate is not valid"):
        await fetch(outbound, f"https://api.example:{port}/")


async def test_plain_http_where_tls_was_asked(raw_server, outbound) -> None:
    async def script(_reader, writer, _number) -> None:
        writer.write(OK)
        await writer.drain()

    url = await raw_server(script)
    with pytest.raises(UpstreamUnreachable, match="cannot be reached"):
        await fetch(outbound, url.replace("http:", "https:"))
