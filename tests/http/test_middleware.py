import asyncio

import pytest
from openai import AsyncOpenAI, AuthenticationError, PermissionDeniedError

from edgecache.config import Auth, AuthTenant
from edgecache.http.auth import Authenticator
from edgecache.types import Mode
from tests.http.conftest import CHAT, Site, miss, request

KEYS = Auth(
    mode="keys",
    tenant=(
        AuthTenant(id="acme", keys=("sk-acme",)),
        AuthTenant(id="small", keys=("sk-small",), models=("tiny",)),
    ),
)


@pytest.mark.parametrize("name", ["X-Request-Id", "X-Client-Request-Id"])
@pytest.mark.parametrize("stored", [True, False])
async def test_a_sound_request_id_of_the_client_is_echoed(site, name: str, stored: bool) -> None:
    made: Site = await site()
    if stored:
        made.remember(miss(b"{}"))
    raw = await made.connect()
    await raw.post()
    assert (await raw.post(CHAT, "/v1/chat/completions", f"{name}: my-id")).headers["x-request-id"] == "my-id"
    assert made.script.hit_id == ("my-id" if stored else "")


@pytest.mark.parametrize("given", ["x" * 129, "with space", "caf\u00e9"])
async def test_an_unsound_request_id_is_replaced(site, given: str) -> None:
    raw = await (await site()).connect()
    response = await raw.post(CHAT, "/v1/chat/completions", f"X-Request-Id: {given}")
    assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/nope", "/v1/chat/completions/", "/admin/v1/purge", "/livez", "/metrics"]
)
async def test_an_unknown_url_is_404_in_the_envelope(site, path: str) -> None:
    raw = await (await site()).connect()
    response = await raw.post(b"{}", path)
    assert (response.status, response.error["code"]) == (404, "unknown_url")
    assert path in response.error["message"]


async def test_a_path_that_is_not_utf_8_is_still_answered_and_logged(site) -> None:
    made: Site = await site()
    raw = await made.connect()
    await raw.send(b"GET /v1/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await raw.response()).status in {400, 404}
    await made.log()


async def test_a_wrong_method_is_405_and_names_the_right_ones(site) -> None:
    raw = await (await site()).connect()
    await raw.send(request("GET", "/v1/chat/completions"))
    response = await raw.response()
    assert (response.status, response.error["code"]) == (405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


async def test_options_names_the_methods_without_a_body(site) -> None:
    raw = await (await site()).connect()
    await raw.send(request("OPTIONS", "/v1/models"))
    response = await raw.response()
    assert (response.status, response.body) == (200, b"")
    assert response.headers["allow"] == "GET,HEAD".replace(",", ", ")


async def test_every_cache_header_becomes_a_control_also_when_repeated(site) -> None:
    made: Site = await site()
    fields = ("Cache-Control: max-age=5", "Cache-Control: no-store", "EdgeCache-Mode: exact", "EdgeCache-Tags: a, b")
    await (await made.connect()).post(CHAT, "/v1/chat/completions", *fields)
    controls = made.script.calls[0].controls
    assert (controls.max_age, controls.no_store, controls.mode, controls.tags) == (5, True, Mode.EXACT, ("a", "b"))


async def test_a_bad_cache_header_is_400_and_named(site) -> None:
    response = await (await (await site()).connect()).post(CHAT, "/v1/chat/completions", "EdgeCache-Mode: sideways")
    assert (response.status, response.error["param"]) == (400, "EdgeCache-Mode")


async def test_only_trace_and_session_headers_may_travel(site) -> None:
    made: Site = await site()
    fields = ("Traceparent: 00-a-b-01", "X-Session-Id: s", "X-Worker-Instance-Id: 5", "Cookie: c", "Authorization: z")
    await (await made.connect()).post(CHAT, "/v1/chat/completions", *fields)
    assert made.script.calls[0].headers == {"traceparent": "00-a-b-01", "x-session-id": "s"}
    assert made.script.calls[0].tenant.authorization is None


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"model":1}', b"\xff\xff", b'{"model":"m","messages":' + b"[" * 5000 + b"]" * 5000 + b"}"],
)
@pytest.mark.parametrize("stored", [True, False])
async def test_a_bad_body_is_400_and_the_connection_lives_on(site, body: bytes, stored: bool) -> None:
    made: Site = await site()
    if stored:
        made.remember(miss(b"{}"))
    raw = await made.connect()
    response = await raw.post(body)
    assert (response.status, response.error["type"]) == (400, "invalid_request_error")
    assert (await raw.post()).status == 200


async def test_requests_over_the_limit_in_progress_are_503_with_retry_advice(site) -> None:
    made: Site = await site({"max_inflight": 1})
    busy, go = asyncio.Event(), asyncio.Event()

    async def slowly(_call):
        busy.set()
        await go.wait()
        return miss(b"{}")

    made.script.answer = slowly
    first, second = await made.connect(), await made.connect()
    await first.send(request("POST", "/v1/chat/completions", CHAT))
    await busy.wait()
    response = await second.post()
    assert (response.status, response.error["code"]) == (503, "overloaded")
    assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("1", "1000")
    go.set()
    assert (await first.response()).status == 200
    assert (await second.post()).status == 200


async def test_an_unforeseen_error_is_a_plain_500_that_tells_nothing(site, caplog) -> None:
    made: Site = await site()
    made.script.answer = ValueError("secret detail")
    raw = await made.connect()
    response = await raw.post()
    assert response.status == 500
    assert b"secret" not in response.body
    assert "secret detail" in caplog.text
    made.script.answer = miss(b"{}")
    assert (await raw.post()).status == 200


@pytest.mark.parametrize("stored", [True, False])
async def test_keys_decide_the_tenant_and_wrong_ones_are_401(site, stored: bool) -> None:
    made: Site = await site(auth=KEYS)
    if stored:
        made.remember(miss(b"{}"), authorization="Bearer sk-acme")
    raw = await made.connect()
    for _ in range(2):
        assert (await raw.post(CHAT, "/v1/chat/completions", "Authorization: Bearer sk-acme")).status == 200
    assert [call.tenant.id for call in made.script.calls] == ["acme", "acme"]
    assert (made.script.hits > 0) == stored
    for header in ("X: y", "Authorization: Bearer sk-other", "Authorization: Basic sk-acme", "Authorization: Bearer "):
        response = await raw.post(CHAT, "/v1/chat/completions", header)
        assert (response.status, response.error["code"]) == (401, "invalid_api_key")
        assert response.headers["www-authenticate"] == "Bearer"
    assert len(made.script.calls) == 2


async def test_a_revoked_key_opens_nothing_that_it_opened_before(site) -> None:
    made: Site = await site(auth=KEYS)
    made.remember(miss(b"{}"), authorization="Bearer sk-acme")
    raw = await made.connect()
    for _ in range(2):
        assert (await raw.post(CHAT, "/v1/chat/completions", "Authorization: Bearer sk-acme")).status == 200
    made.services.auth = Authenticator(Auth(mode="keys"))
    assert (await raw.post(CHAT, "/v1/chat/completions", "Authorization: Bearer sk-acme")).status == 401


async def test_a_model_outside_the_tenants_list_is_403(site) -> None:
    made: Site = await site(auth=KEYS)
    response = await (await made.connect()).post(CHAT, "/v1/chat/completions", "Authorization: Bearer sk-small")
    assert (response.status, response.error["type"], response.error["param"]) == (403, "permission_error", "model")
    assert not made.script.calls


@pytest.mark.parametrize("header", ["Cache-Control: no-cache", "EdgeCache-Mode: bypass", "Content-Encoding: gzip"])
async def test_a_request_with_more_than_its_body_does_not_take_the_short_cut(site, header: str) -> None:
    made: Site = await site()
    made.remember(miss(b"{}"))
    raw = await made.connect()
    await raw.post()
    before = made.script.hits
    await raw.post(CHAT, "/v1/chat/completions", header)
    assert made.script.hits == before


async def test_the_sdk_raises_its_typed_errors_for_401_and_403(site) -> None:
    made: Site = await site(auth=KEYS)
    for key, kind in (("sk-wrong", AuthenticationError), ("sk-small", PermissionDeniedError)):
        async with AsyncOpenAI(base_url=made.url + "/v1", api_key=key, max_retries=0) as client:
            with pytest.raises(kind):
                await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])


async def test_in_forward_mode_the_credential_travels_and_separates_tenants(site) -> None:
    made: Site = await site(auth=Auth(mode="forward"))
    raw = await made.connect()
    for key in ("Bearer a", "Bearer b", "Bearer a"):
        assert (await raw.post(CHAT, "/v1/chat/completions", f"Authorization: {key}")).status == 200
    first, second, third = (call.tenant for call in made.script.calls)
    assert first == third
    assert first.id != second.id
    assert (first.authorization, first.id[:4]) == ("Bearer a", "fwd-")
    assert (await raw.post()).status == 401


async def test_a_draining_pop_answers_and_closes_the_connection(site) -> None:
    made: Site = await site()
    made.remember(miss(b"{}"))
    raw = await made.connect()
    assert "connection" not in (await raw.post()).headers
    made.services.readiness.draining = True
    assert (await raw.post()).headers["connection"] == "close"
    assert await raw.rest() == b""


async def test_the_log_line_and_the_metrics_of_a_request_tell_no_prompt(site) -> None:
    made: Site = await site(auth=KEYS)
    await (await made.connect()).post(CHAT, "/v1/chat/completions", "Authorization: Bearer sk-acme", "X-Request-Id: r1")
    (line,) = await made.log()
    assert line.items() >= {
        "request_id": "r1", "tenant": "acme", "endpoint": "chat.completions", "model": "m", "status": 200,
        "cache": "MISS", "upstream": "core", "bytes": 10,
    }.items()  # fmt: skip
    assert "hello" not in str(line)
    assert "sk-acme" not in str(line)
    labels = {"endpoint": "chat.completions", "model": "m", "code": "200", "cache": "MISS"}
    assert made.counted("edgecache_requests_total", **labels) == 1
    assert made.counted("edgecache_ttft_seconds_count", endpoint="chat.completions", cache="MISS") == 1
    assert made.counted("edgecache_stage_duration_seconds_count", stage="parse") == 1


async def test_a_request_that_is_not_http_is_logged_too(site) -> None:
    made: Site = await site()
    raw = await made.connect()
    await raw.send(b"nonsense\r\n\r\n")
    assert (await raw.response()).status == 400
    (line,) = await made.log()
    assert (line["endpoint"], line["status"]) == ("none", 400)


async def test_functions_get_the_headers_of_the_request_at_hand(site) -> None:
    made: Site = await site()
    raw = await made.connect()
    await raw.post(CHAT, "/v1/chat/completions", "X-User: Ada")
    assert made.script.calls[-1].client["x-user"] == "Ada"
    made.remember(miss(b"{}"))
    await raw.post(CHAT, "/v1/chat/completions", "X-User: Bob")
    assert made.script.hits == 1
    assert made.script.calls[-1].client == {}
    assert made.script.hit_headers["x-user"] == "Bob"
