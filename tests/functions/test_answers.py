from edgecache.functions.answers import Found, Inference, Options


def test_the_order_of_the_options_is_that_of_the_host_call() -> None:
    assert Options.__struct_fields__ == (
        "max_tokens",
        "repeat_penalty",
        "repeat_last_n",
        "temperature",
        "top_k",
        "top_p",
    )
    assert Options() == Options(None, None, None, None, None, None)


def test_answers_are_values() -> None:
    assert Inference("hi", 1, 2) == Inference("hi", 1, 2)
    assert Found(b"{}", 0.9, 7) != Found(b"{}", 0.9, 8)
