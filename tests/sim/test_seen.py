from edgecache.sim.seen import Seen, Tally


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


def test_a_tally_counts_the_prompt_with_its_first_token() -> None:
    seen = Seen()
    unanswered, answered = Tally(seen, "m", 100, 60), Tally(seen, "m", 10, 4)
    answered.made(1)
    answered.made(2)
    del unanswered
    assert seen.prompts == {"m": 1}
    assert (seen.prompt_tokens["m"], seen.cached_tokens["m"], seen.generated_tokens["m"]) == (10, 4, 3)


def test_priorities_are_reported_by_their_value() -> None:
    seen = Seen()
    seen.priorities.update([0.5, 0.5, -1.0])
    assert seen.as_json()["priorities"] == {"0.5": 2, "-1": 1}
