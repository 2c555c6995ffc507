"""Apps built with Spin's own tools (`make spin`) answer unmodified, each call in a fresh sandbox."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm.base import Limits
from edgecache.wasm.component import ComponentProgram
from edgecache.wasm.compose import compose
from edgecache.wasm.engine import Engine
from tests.adapter.conftest import Host, give, refuse, request

pytestmark = [pytest.mark.spin, pytest.mark.timeout(300)]

BUILT = Path(__file__).parents[2] / "build" / "spin"
LIMITS = Limits(cpu=5.0, wall=20.0, memory=64 * 1024 * 1024)


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ComponentProgram]]:
    engine = Engine(instances=4, memory=64 * 1024 * 1024, tick=0.001)
    folder = tmp_path_factory.mktemp("code")

    def loaded(name: str) -> ComponentProgram:
        code = folder / f"{name}.cwasm"
        code.write_bytes(engine.compile_component(compose((BUILT / f"{name}.wasm").read_bytes())))
        return ComponentProgram(engine, code)

    yield loaded
    engine.close()


@pytest.fixture(scope="module")
def shop(load) -> ComponentProgram:
    return load("shop")


@pytest.fixture(scope="module")
def support(load) -> ComponentProgram:
    return load("support")


@pytest.fixture(scope="module")
def guestbook(load) -> ComponentProgram:
    return load("guestbook")


def test_javascript_greets_with_a_random_order_that_can_be_replayed(shop):
    host = Host()
    greet = request("/greet", headers=(("x-user", "Ada"),), method="GET")
    response = shop.run(greet, LIMITS, host)
    assert response.body == b"Hello Ada!"
    order = dict(response.headers)["x-order"]
    assert len(order) == 36
    assert host.all("log") == [[b"info", b"GET /greet"]]
    assert dict(shop.run(greet, LIMITS, Host()).headers)["x-order"] == order
    other = request("/greet", method="GET", seed=bytes(32))
    assert dict(shop.run(other, LIMITS, Host()).headers)["x-order"] != order


@pytest.mark.parametrize(
    ("asked", "status", "answered"),
    [
        ({"amount": 10, "currency": "USD"}, 200, {"amount": 11, "currency": "USD"}),
        ({"amount": 10, "currency": "XYZ"}, 422, {"error": "unknown currency XYZ"}),
    ],
)
def test_javascript_takes_and_gives_json(shop, asked, status, answered):
    response = shop.run(request("/price", orjson.dumps(asked)), LIMITS, Host())
    assert (response.status, orjson.loads(response.body)) == (status, answered)


def test_javascript_passes_binary_bodies_on(shop):
    photo = bytes(range(256)) * 1000
    response = shop.run(request("/photo", photo), LIMITS, Host())
    assert response.body == photo
    assert ("content-type", "image/png") in response.headers


def test_javascript_streams(shop):
    photo = bytes(range(256)) * 1000
    left = iter([photo[:100_000], photo[100_000:]])
    host = Host(body_read=lambda: give(*[part for part in [next(left, None)] if part is not None]))
    shop.run(request("/photo", reads=True, writes=True), LIMITS, host)
    assert b"".join(fields[0] for fields in host.all("body.write")) == photo
    assert host.all("body.head")[0][0] == b"200"


def test_javascript_fetches_what_the_host_allows(shop):
    host = Host(fetch=lambda *_: give(b"200", b"7 left", b"x-age", b"3"))
    response = shop.run(request("/stock?sku=a1", method="GET"), LIMITS, host)
    assert response.body == b"7 left"
    assert ("x-stock", "3") in response.headers
    method, url, body, *headers = host.all("fetch")[0]
    assert (method, url, body) == (b"GET", b"https://stock.example/a1", b"")
    assert headers[headers.index(b"x-from") :][:2] == [b"x-from", b"edge"]


def test_javascript_that_does_not_catch_a_refusal_fails_and_its_log_says_why(shop):
    host = Host(fetch=lambda *_: refuse("denied"))
    with pytest.raises(FunctionFault) as failed:
        shop.run(request("/stock?sku=a1", method="GET"), LIMITS, host)
    assert failed.value.fault == Fault.ANSWER  # the runtime begins a response of status 500, and does not finish it
    assert any(level == b"error" and b"NetworkError" in text for level, text in host.all("log"))


def test_spin_llm_gets_embeddings_and_inference_from_the_host(support):
    def embed(model: bytes, *texts: bytes) -> bytes:
        assert model == b"all-minilm-l6-v2"
        vectors = [[1.0 if word in text.lower() else 0.0 for word in (b"return", b"days", b"ship")] for text in texts]
        return give(b"21", *[struct.pack("<3f", *vector) for vector in vectors])

    host = Host(llm_embed=embed, llm_infer=lambda *_: give("Within 30 days, très simple.".encode(), b"30", b"6"))
    response = support.run(request("/", b"How can I return it?"), LIMITS, host)
    assert orjson.loads(response.body) == {
        "page": "Returns are free for 30 days.",
        "tokens": 21,
        "dimension": 3,
        "answer": "Within 30 days, très simple.",
        "made": 6,
    }
    model, prompt, *parameters = host.all("llm.infer")[0]
    assert model == b"llama2-chat"
    assert prompt.startswith(b"Returns are free for 30 days.\n\nQuestion: How can I return it?")
    assert parameters[0] == b"50"


def test_python_counts_in_key_value_and_greets_from_a_variable(guestbook):
    kept: dict[bytes, bytes] = {}
    opened: list[bytes] = []
    host = Host(
        kv_open=lambda store: opened.append(store) or give(),
        kv_get=lambda _store, key: give(kept[key]) if key in kept else give(),
        kv_set=lambda _store, key, value: kept.update({key: value}) or give(),
        var_get=lambda name: give(f"{name.decode()}: grüezi".encode()),
    )
    first = orjson.loads(guestbook.run(request("/?name=Ada", method="GET"), LIMITS, host).body)
    assert first["text"] == "greeting: grüezi Ada"
    assert first["visit"] == 1
    assert orjson.loads(guestbook.run(request("/?name=Bo", method="GET"), LIMITS, host).body)["visit"] == 2
    assert orjson.loads(kept[b"names"]) == ["Ada", "Bo"]
    assert opened == [b"default"] * 2
    assert host.all("log")[0] == [b"info", b"visit of Ada"]


def test_python_forwards_a_binary_body(guestbook):
    host = Host(fetch=lambda _method, _url, body, *_: give(b"202", body[::-1]))
    response = guestbook.run(request("/forward", b"\x00\xff\x80abc"), LIMITS, host)
    assert (response.status, response.body) == (202, b"cba\x80\xff\x00")
    assert host.all("fetch")[0][1] == b"https://hooks.example/visit"


def test_python_gets_an_error_for_what_is_not_granted(guestbook):
    host = Host(kv_open=lambda _store: refuse("denied"))
    response = guestbook.run(request("/", method="GET"), LIMITS, host)
    assert response.status == 500
    assert any(b"Error_AccessDenied" in text for _, text in host.all("log"))
