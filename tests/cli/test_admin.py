import email
import email.policy
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgecache.cli.admin import Admin, connect
from edgecache.config.address import Address
from edgecache.errors import ConfigError, EdgeCacheError


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was asked; `/refuse` as the admin API refuses, `/break` with something else."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.respond(b"")

    def do_POST(self) -> None:
        if self.headers.get("transfer-encoding") == "chunked":
            raw = b""
            while size := int(self.rfile.readline(), 16):
                raw += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            raw = self.rfile.read(int(self.headers["content-length"]))
        self.respond(raw)

    def do_PUT(self) -> None:
        self.do_POST()

    def do_DELETE(self) -> None:
        self.respond(b"")

    def respond(self, raw: bytes) -> None:
        told = {
            "method": self.command,
            "path": self.path,
            "body": raw.decode(),
            "authorization": self.headers.get("authorization"),
            "type": self.headers.get("content-type"),
        }
        status, body = 200, json.dumps(told).encode()
        if self.path == "/refuse":
            status, body = 401, b'{"status": 401, "detail": "Incorrect admin token."}'
        if self.path == "/break":
            status, body = 500, b"<html>"
        if self.path == "/text":
            body = b"<html>"
        if self.path == "/events":
            body = b': hello\n\ndata: {"a": 1}\n\nid: 2\ndata: {"a":\ndata: 2}\n\ndata: {"a": 3}'
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def place() -> Iterator[Address]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Address("127.0.0.1", server.server_address[1])
        server.shutdown()
        thread.join()


def test_requests_carry_the_token_and_answers_are_decoded(place: Address) -> None:
    told = Admin(place, "hush").get("/a", {"x": "1 2"})
    assert (told["path"], told["body"], told["authorization"]) == ("/a?x=1+2", "", "Bearer hush")
    assert Admin(place, None).get("/a")["authorization"] is None


def test_bodies_go_as_json_or_as_they_are(place: Address) -> None:
    admin = Admin(place, None)
    assert admin.post("/a", {"b": 1})["body"] == '{"b": 1}'
    assert admin.post("/a", b" {}")["body"] == " {}"
    with admin.open("POST", "/a", iter([b"one", b"two"])) as answer:
        assert json.load(answer)["body"] == "onetwo"


def test_things_are_put_deleted_and_read_as_they_are(place: Address) -> None:
    admin = Admin(place, None)
    put = admin.put("/a", {"b": 1})
    assert (put["method"], put["body"], put["type"]) == ("PUT", '{"b": 1}', "application/json")
    put = admin.put("/a", b"raw")
    assert (put["body"], put["type"]) == ("raw", "application/octet-stream")
    assert admin.delete("/a")["method"] == "DELETE"
    assert admin.read("/text") == b"<html>"


def test_an_upload_is_a_form_that_others_can_read(place: Address) -> None:
    told = Admin(place, None).upload("/a", {"manifest": b"{}", "artefact": b"--x\r\n\0asm"})
    raw = f"content-type: {told['type']}\r\n\r\n{told['body']}".encode()
    form = email.message_from_bytes(raw, policy=email.policy.HTTP)
    parts = {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in form.iter_parts()
    }
    assert parts == {"manifest": b"{}", "artefact": b"--x\r\n\0asm"}


def test_events_come_as_they_are_sent_and_a_torn_one_is_left_out(place: Address) -> None:
    assert list(Admin(place, None).events("/events")) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("path", "says"),
    [("/refuse", "Incorrect admin token."), ("/break", "500 Internal Server Error"), ("/text", "no answer from the")],
)
def test_refusals_say_why(place: Address, path: str, says: str) -> None:
    with pytest.raises(EdgeCacheError, match=says):
        Admin(place, None).get(path)


def test_nobody_there_is_an_error() -> None:
    with pytest.raises(EdgeCacheError, match=r"no answer from the admin API on 127\.0\.0\.1:1"):
        Admin(Address("127.0.0.1", 1), None).get("/")


def test_the_configuration_says_where_unless_an_option_does(place: Address, tmp_path: Path) -> None:
    file = tmp_path / "e.toml"
    file.write_text(f'[admin]\nlisten = "0.0.0.0:{place.port}"\ntoken = "from-file"\n')
    assert connect(file, None, None).get("/a")["authorization"] == "Bearer from-file"
    assert connect(file, None, "given").get("/a")["authorization"] == "Bearer given"
    with pytest.raises(EdgeCacheError):
        connect(file, "127.0.0.1:1", None).get("/a")
    with pytest.raises(ConfigError, match="--admin"):
        connect(file, "nowhere", None)
