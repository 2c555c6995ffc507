"""Key-value, variables, models and the cache through the adapter: what the host is asked, and how its answers come."""

import struct

from tests.adapter.conftest import LIMITS, Host, give, lines, refuse, request


class Stores:
    """A host's key-value operations over a dict, with names that are refused."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {b"bad": b"text"}

    def host(self) -> Host:
        names = ("open", "get", "set", "delete", "exists", "keys", "increment", "swap")
        return Host(**{f"kv_{name}": getattr(self, name) for name in names})

    def open(self, store: bytes) -> bytes:
        refused = {b"denied": "denied", b"nowhere": "not-found", b"broken": "unavailable"}
        return refuse(refused[store]) if store in refused else give()

    def get(self, _store: bytes, key: bytes) -> bytes:
        return give(self.values[key]) if key in self.values else give()

    def set(self, _store: bytes, key: bytes, value: bytes) -> bytes:
        if key == b"huge":
            return refuse("quota", "1 byte over")
        self.values[key] = value
        return give()

    def delete(self, _store: bytes, key: bytes) -> bytes:
        self.values.pop(key, None)
        return give()

    def exists(self, _store: bytes, key: bytes) -> bytes:
        return give(b"1" if key in self.values else b"0")

    def keys(self, _store: bytes) -> bytes:
        return give(*sorted(self.values))

    def increment(self, _store: bytes, key: bytes, delta: bytes) -> bytes:
        if key == b"bad":
            return refuse("invalid", "not a number")
        self.values[key] = b"%d" % (int(self.values.get(key, b"0")) + int(delta))
        return give(self.values[key])

    def swap(self, _store: bytes, key: bytes, how: bytes, expected: bytes, new: bytes) -> bytes:
        if self.values.get(key) != (expected if how == b"=" else None):
            return give(b"0")
        self.values[key] = new
        return give(b"1")


def test_spin_key_value(guest):
    assert guest.run(request("/store"), LIMITS, Stores().host()).body.split(b"\n") == [
        b"error 2 ",  # access-denied
        b"error 1 ",  # no-such-store
        b"error 3 no",  # other
        b"ok (none)",
        b"ok 0",
        b"ok ",
        *b"ok \x00\xffv\n".split(b"\n"),
        b"ok 1",
        b"ok ",
        b"ok ",
        b"ok bad,caf\xc3\xa9,k,",
        b"ok ",
        b"ok (none)",
        b"error 3 1 byte over",
        b"",
    ]


def test_wasi_keyvalue(guest):
    stores = Stores()
    assert lines(guest.run(request("/keyvalue"), LIMITS, stores.host())) == [
        "error 1 ",
        "error 0 ",
        "increment 5",
        "increment -7",
        "increment-error 2",
        "ok (none)",
        "swap 0",
        "swap-late 1",
        "case 1",  # cas-failed, with a new handle
        "ok one",
        "swap-again 0",
        "ok three",
        "ok ",
        "a=1",
        "x=(none)",
        "b=2",
        "ok ",
        "ok 0",
        "ok ",
        "ok ",
        "cursor 0",
        "ok b,bad,c,n,",
    ]


def test_variables_in_both_interfaces(guest):
    refused = {b"absent": "not-found", b"forbidden": "denied", b"BAD": "invalid", b"slow": "timeout"}

    def get(name: bytes) -> bytes:
        return refuse(refused[name], "why") if name in refused else give(b"hell\xc3\xb6 \xff")

    answered = guest.run(request("/variables"), LIMITS, Host(var_get=get)).body.split(b"\n")
    assert answered == [
        b"ok hell\xc3\xb6 ?",  # strings are UTF-8, whatever the host says
        b"error 1 why",  # undefined
        b"error 1 why",
        b"error 0 why",  # invalid-name
        b"error 2 why",  # provider
        b"ok hell\xc3\xb6 ?",
        b"ok (none)",
        b"ok (none)",
        b"error 0 why",
        b"error 0 why",
        b"error 0 variables cannot be listed; get them by name",
        b"",
    ]


def test_models(guest):
    refused = {b"absent": "not-found", b"denied": "denied", b"slow": "timeout"}

    def infer(model: bytes, *_rest: bytes) -> bytes:
        return refuse(refused[model], "why") if model in refused else give(b"hi \xc3\xa9", b"12", b"34")

    def embed(model: bytes, *texts: bytes) -> bytes:
        if model in refused:
            return refuse(refused[model], "why")
        vectors = [struct.pack("<3f", 0.5, -1.25, len(text)) for text in texts]
        return give(b"7", *vectors[: 1 if model == b"short" else 2])

    host = Host(llm_infer=infer, llm_embed=embed)
    assert guest.run(request("/llm"), LIMITS, host).body.decode().splitlines() == [
        "text hi é",
        "prompt 12",
        "made 34",
        "made 34",
        "error 2 a parameter is not a number of a sensible size",
        "error 0 ",  # model-not-supported
        "error 2 why",  # invalid-input, as Spin answers for a model that is not granted
        "error 1 why",  # runtime-error
        "vectors 2",
        "tokens 7",
        "x1000 500",
        "x1000 -1250",
        "x1000 3000",
        "x1000 500",
        "x1000 -1250",
        "x1000 4000",
        "error 0 ",
        "error 1 fewer vectors than texts",
    ]
    defaults, given = host.all("llm.infer")[:2]
    assert defaults == [b"llama", b"Say h\xc3\xa9!", b"100", b"1.100000", b"64", b"0.800000", b"40", b"0.900000"]
    assert given[2:] == [b"7", b"1.500000", b"9", b"0.000000", b"11", b"0.250000"]
    assert host.all("llm.embed")[0] == [b"mini", b"one", b"t\xc3\xb6o"]


def test_the_cache_of_the_pop(guest):
    def lookup(model: bytes, question: bytes) -> bytes:
        if model != b"m":
            return refuse({b"denied": "denied", b"slow": "timeout"}[model], "why")
        return give(b'{"id":1}', b"0.975", b"e1") if question == b"known?" else give()

    said = lines(guest.run(request("/lookup"), LIMITS, Host(cache_lookup=lookup)))
    assert said[:4] == ["found 1", 'answer {"id":1}', "entry e1", "x1000 975"]
    assert said[4:] == ["found 0", "error 0", "error 1 why"]
