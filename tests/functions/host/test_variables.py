from edgecache.functions.manifest import Allow
from edgecache.wasm.hostcalls import Code


def test_variables_stand_in_the_manifest(bench, ask) -> None:
    host = bench.host(Allow(variables=("greeting",)), variables={"greeting": "h\u00e9llo", "hidden": "x"})
    assert ask(host, "var.get", "greeting") == ["h\u00e9llo".encode()]


def test_only_what_is_granted(bench, refusal) -> None:
    host = bench.host(Allow(variables=("greeting",), secrets=("other",)), variables={"hidden": "x"})
    for name in ("hidden", "token", "greeting", ""):
        code, message = refusal(host, "var.get", name)
        assert code is Code.DENIED
        assert "in function.toml" in message
    assert refusal(host, "var.get", b"\xff")[0] is Code.INVALID


async def test_secrets_are_for_their_function_alone(bench, ask, refusal) -> None:
    await bench.secrets.put("acme", "f", {"token": "hunter2hunter2"})
    granted = Allow(secrets=("token", "missing"))
    assert ask(bench.host(granted), "var.get", "token") == [b"hunter2hunter2"]
    for other in (bench.host(granted, name="g"), bench.host(granted, tenant="evil")):
        assert refusal(other, "var.get", "token") == (
            Code.NOT_FOUND,
            "the secret token has no value: edgecache fn secret put token",
        )
    assert refusal(bench.host(granted), "var.get", "missing")[0] is Code.NOT_FOUND
    assert refusal(bench.host(Allow()), "var.get", "token")[0] is Code.DENIED


async def test_reading_a_secret_is_audited_without_its_value(bench, ask) -> None:
    await bench.secrets.put("acme", "f", {"token": "hunter2hunter2"})
    host = bench.host(Allow(secrets=("token",), variables=("plain",)), variables={"plain": "x"})
    ask(host, "var.get", "token")
    ask(host, "var.get", "plain")
    assert [record.text for record in bench.journal.records("acme", "f")] == ["var.get token: ok"]


async def test_secrets_without_their_key_are_unavailable(bench, refusal, tmp_path) -> None:
    await bench.secrets.put("acme", "f", {"token": "hunter2hunter2"})
    (tmp_path / "key").unlink()
    assert refusal(bench.host(Allow(secrets=("token",))), "var.get", "token")[0] is Code.UNAVAILABLE
