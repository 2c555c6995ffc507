import msgspec
import orjson

from edgecache.pipeline.replay import Replay
from edgecache.types import CacheStatus, Endpoint, Entry
from tests.conftest import call

ANSWER = orjson.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "edge-test",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Vienna"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
)
ENTRY = Entry(
    "t", "", "edge-test", b"s" * 16, b"d" * 32, "q", Endpoint.CHAT, ANSWER, created=100.0, expires=160.0, id=9,
    prompt_tokens=3, completion_tokens=1,
)  # fmt: skip


def test_a_json_hit_is_the_stored_bytes() -> None:
    reply = Replay().reply(call("Capital of Austria?"), ENTRY, CacheStatus.HIT, now=110.9)
    assert reply.body is ANSWER
    assert (reply.status, reply.content_type, reply.chunks) == (200, "application/json", None)
    assert (reply.cache.entry_id, reply.cache.age, reply.cache.ttl) == (9, 10, 49)
    assert (reply.prompt_tokens, reply.completion_tokens) == (3, 1)


def test_a_streamed_hit_is_the_same_answer_as_events_in_one_piece() -> None:
    asked = call({"messages": [{"role": "user", "content": "Capital?"}], "stream": True})
    hit = {"similarity": 0.97, "score": 0.999, "detail": "semantic"}
    reply = Replay().reply(asked, ENTRY, CacheStatus.SEMANTIC_HIT, now=100.0, **hit)
    assert reply.content_type.startswith("text/event-stream")
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert b"Vienna" in reply.body
    assert b'"usage":{' not in reply.body
    assert (reply.cache.similarity, reply.cache.score, reply.cache.detail) == (0.97, 0.999, "semantic")


def test_usage_is_streamed_to_those_who_asked() -> None:
    body = {
        "messages": [{"role": "user", "content": "Capital?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert b'"total_tokens":4' in Replay().reply(call(body), ENTRY, CacheStatus.HIT, now=100.0).body


def test_the_age_of_an_entry_from_a_clock_that_was_ahead_is_zero() -> None:
    assert Replay().reply(call("Capital?"), ENTRY, CacheStatus.HIT, now=90.0).cache.age == 0


STREAM = {"messages": [{"role": "user", "content": "Capital?"}], "stream": True}


def test_the_stream_of_an_entry_is_made_once_for_each_form() -> None:
    replay = Replay()
    usage = call(STREAM | {"stream_options": {"include_usage": True}})
    plain = replay.body(call(STREAM), ENTRY)[1]
    assert replay.body(call(STREAM), ENTRY)[1] is plain
    assert replay.body(usage, ENTRY)[1] != plain


def test_entries_that_are_not_stored_are_not_taken_for_one_another() -> None:
    replay = Replay()
    one, two = (msgspec.structs.replace(ENTRY, id=0, body=ANSWER.replace(b"Vienna", name)) for name in (b"A", b"B"))
    assert replay.body(call(STREAM), one) != replay.body(call(STREAM), two)


def test_what_is_remembered_is_bounded() -> None:
    replay = Replay()
    for number in range(1, 1100):
        replay.body(call(STREAM), msgspec.structs.replace(ENTRY, id=number))
    large = msgspec.structs.replace(ENTRY, id=2000, body=ANSWER.replace(b"Vienna", b"x" * 20_000))
    replay.body(call(STREAM), large)
    assert len(replay._streams) == 1024
    assert max(map(len, replay._streams.values())) <= 16 * 1024
