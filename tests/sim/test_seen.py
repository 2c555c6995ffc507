from edgecache.sim.seen import Seen


def test_requests_are_counted_and_the_last_one_kept() -> None:
    seen = Seen()
    seen.note("POST", "/v1/chat/completions", {"X-Request-ID": "1"}, b'{"a":1}')
    seen.note("POST", "/v1/embeddings", {"X-Request-ID": "2"}, b'{"a":2}')
    seen.failures["cut"] += 1
    report = seen.as_json()
    assert report["requests"] == 2
    assert report["paths"] == {"/v1/chat/completions": 1, "/v1/embeddings": 1}
    assert report["failures"] == {"cut": 1}
    assert report["last"] == {
        "method": "POST",
        "path": "/v1/embeddings",
        "headers": {"x-request-id": "2"},
        "body": {"a": 2},
    }


def test_a_body_that_is_not_json_is_none() -> None:
    seen = Seen()
    assert seen.body is None
    seen.note("POST", "/", {}, b"{")
    assert seen.body is None
