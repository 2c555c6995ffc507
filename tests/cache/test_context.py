"""Which last turns stand alone, which are compared with what the user said before, and which keep their history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.cache import context, features, guards
from edgecache.cache.context import Kind
from edgecache.types import Candidate

FRANCE = "What is the capital of France?"
PARIS = "What is the best restaurant in Paris?"
MESSI = "Who is Messi?"

BARE = [
    "Why?",
    "why not",
    "How?",
    "And you?",
    "and in Berlin?",
    "And Germany?",
    "what about Berlin?",
    "What about the second one?",
    "How about a dog?",
    "How much does it cost?",
    "how old is he",
    "Where was she born?",
    "Translate that to German.",
    "Shorten it",
    "Explain the second point",
    "continue",
    "Go on.",
    "yes",
    "ok thanks",
    "Are you sure?",
    "Is it safe?",
    "Give me another example",
    "Give me more",
    "What are the side effects?",
    "Who is the author?",
    "Which is better?",
    "Is Rust faster?",
    "and the first?",
    "in French please",
    "How do they compare?",
    "What else did Tolkien write?",
    "2020?",
    "?",
]
CONTEXTS = [
    FRANCE,
    PARIS,
    MESSI,
    "What is ibuprofen?",
    "What is the Tesla Model 3?",
    "When was Tesla founded?",
    "Recommend a good book.",
    "How do I sort a list in Python?",
    "I am a vegetarian.",
    "Answer in French from now on.",
    "How long does a cat live?",
    "Who won in 2018?",
    "Hi",
    "Thanks!",
    "x | y",
    "two\nlines",
    "WHAT IS THE CAPITAL OF FRANCE?",
    "Wer ist Messi?",
]


@pytest.mark.parametrize("last", [*BARE, FRANCE, "", "x\ny", "Wer ist das?"])
def test_a_first_turn_stands_alone_however_it_is_worded(last: str) -> None:
    assert context.compare([last]) == context.Comparison(Kind.ALONE, last)


@pytest.mark.parametrize(
    "last",
    [
        FRANCE,
        "Is Messi Argentinian?",
        "When did Napoleon die?",
        "What are some interesting Sharia laws?",
        "What are the differences between C and Java?",
        "Is Rust faster than Java?",
        "Why is Machu Picchu famous?",
    ],
)
@pytest.mark.parametrize(
    "history",
    [
        ["How long does a horse live?"],
        ["Hi"],
        ["Thanks!", "Does bread freeze well?"],
        ["How do I sort a list in Python?"],
        ["Where can I buy cheap flowers?"],
    ],
)
def test_a_question_of_fact_that_names_its_subject_stands_alone(history: list[str], last: str) -> None:
    assert context.compare([*history, last]) == context.Comparison(Kind.ALONE, last)


@pytest.mark.parametrize(
    ("history", "last"),
    [
        (["I am a vegetarian."], FRANCE),
        (["I'm using Python 2."], "What is PEP 8?"),
        (["Answer in French from now on."], FRANCE),
        (["Can you answer in French?"], FRANCE),
        (["How can I lose weight as a diabetic?"], "Is Coke healthy?"),
        (["What is my name?"], FRANCE),
        (["Is it true that I have a dog?"], FRANCE),
        (["Pretend to be a pirate."], FRANCE),
        (["Who is the CEO of Apple?"], "How many people work in Germany?"),
        (["How do I sort a list in Python?"], "How do I read a CSV file?"),
        (["How do I sort a list in Python?"], "How do I read a file?"),
        (["What is the capital of Japan?"], FRANCE),
        (["Does bread freeze well?"], "Is Rust faster?"),
        (["Does bread freeze well?"], "What did Einstein say about the theory?"),
        (["Does bread freeze well?"], "What else did Tolkien write?"),
        (["Does bread freeze well?"], "What is my name?"),
        (["Does bread freeze well?"], "Why did you say Paris?"),
        (["Does bread freeze well?"], "Wer ist Messi?"),
        (["Does bread freeze well?"], "What in Germany?"),
        (["x | y"], FRANCE),
        (["two\nlines"], FRANCE),
        (["Is it " + "very " * 90 + "late?"], FRANCE),
        (["Does bread freeze well?"], FRANCE + " " + "Really? " * 80),
    ],
)
def test_where_there_is_a_doubt_a_turn_does_not_stand_alone(history: list[str], last: str) -> None:
    found = context.compare([*history, last])
    assert found is None or (found.kind is Kind.FOLLOW_UP and found.carried == tuple(range(len(history))))


@pytest.mark.parametrize(
    ("turns", "carried", "words"),
    [
        ([FRANCE, "and of Germany?"], (0,), "of germany"),
        ([FRANCE, "And Germany?"], (0,), "germany"),
        ([PARIS, "And in Berlin?"], (0,), "in berlin"),
        ([PARIS, "In Berlin?"], (0,), "in berlin"),
        ([PARIS, "What about Berlin?"], (0,), "berlin"),
        ([PARIS, "and what about in New York"], (0,), "in new york"),
        (["How long does a cat live?", "and a dog?"], (0,), "a dog"),
        (["How do I cook rice in a pot?", "And in a microwave?"], (0,), "in a microwave"),
        (["Who won the World Cup in 2014?", "and in 2018?"], (0,), "in 2018"),
        (["What is ibuprofen?", "and paracetamol?"], (0,), "paracetamol"),
        (["What is ibuprofen?", "What are the side effects?"], (0,), "what are the side effects"),
        (["What is the Tesla Model 3?", "How much does it cost?"], (0,), "how much does it cost"),
        (["When was Tesla founded?", "Who runs it?"], (0,), "who runs it"),
        ([MESSI, "Where was he born?", "How old is he?"], (0, 1), "how old is he"),
        ([FRANCE, "and of Italy?", "and of Germany?"], (0, 1), "of germany"),
        ([MESSI, FRANCE, "and of Germany?"], (1,), "of germany"),
        ([FRANCE, MESSI, "and of Germany?"], (0, 1), "of germany"),
        (["What is the capital of Japan?", FRANCE, "and of Germany?"], (0, 1), "of germany"),
        (["I am a vegetarian.", PARIS, "and in Berlin?"], (0, 1), "in berlin"),
    ],
)
def test_a_follow_up_is_compared_with_the_turns_it_depends_on(
    turns: list[str], carried: tuple[int, ...], words: str
) -> None:
    found = context.compare(turns)
    assert found is not None
    assert (found.kind, found.carried, found.words) == (Kind.FOLLOW_UP, carried, tuple(words.split()))
    assert found.text == " | ".join([*(turns[at] for at in carried), turns[-1]])


@pytest.mark.parametrize(
    "turns",
    [
        [FRANCE, "Why?"],
        [FRANCE, "Are you sure?"],
        [FRANCE, "Translate that to German"],
        [FRANCE, "Translate 'hello' to German"],
        [FRANCE, "shorten it"],
        [FRANCE, "Explain the second point"],
        [FRANCE, "continue"],
        [FRANCE, "What about the second one?"],
        [FRANCE, "How many people live there?"],
        ["Recommend a good book.", "Who wrote it?"],
        ["Recommend a phone.", "And the battery?"],
        ["Recommend a phone.", "What about battery life?"],
        ["What is a good phone with a keyboard?", "And with a pen?"],
        ["What is Tesla?", "Who founded it?", "How old is he?"],
        ["How can I learn Spanish?", "Is it free?"],
        ["Did Tesla beat Edison?", "How old was he?"],
        ["Does Tesla sell a truck?", "How much does it cost?"],
        [PARIS, "Translate that to German.", "And in Berlin?"],
        [PARIS, "Continue.", "And in Berlin?"],
        [PARIS, "Which is the cheapest?", "And in Berlin?"],
        [PARIS, "And if it rains?"],
        [PARIS, "And in that street?"],
        [PARIS + " a|b", "And in Berlin?"],
        ["Tell me about restaurants.\nIn Paris.", "And in Berlin?"],
        ["WHAT IS THE BEST RESTAURANT IN PARIS?", "And in Berlin?"],
        ["What is the best restaurant in Paris, " + "very " * 110 + "cheap?", "And in Berlin?"],
        ["Wo isst man gut in Paris?", "Und in Berlin?"],
        ["What is ?", "and paracetamol?"],
        ["???", "How old is he?"],
    ],
)
def test_what_depends_on_an_answer_or_on_nobody_knows_what_keeps_its_history(turns: list[str]) -> None:
    assert context.compare(turns) is None


def test_a_text_beyond_the_window_keeps_its_history() -> None:
    long = "What is the best restaurant in Paris, " + "very " * 50 + "cheap?"
    assert context.LONGEST / 2 < len(long) + 15 < context.LONGEST
    assert context.compare([long, "And in Berlin?"]) is not None
    assert context.compare([long, "And in Rome?", "And in Berlin?"]) is not None
    assert context.compare([long, long, "And in Berlin?"]) is None


@given(st.lists(st.sampled_from(CONTEXTS), min_size=1, max_size=3), st.sampled_from(BARE))
def test_a_bare_follow_up_is_never_compared_by_itself(history: list[str], last: str) -> None:
    found = context.compare([*history, last])
    assert found is None or (found.kind is Kind.FOLLOW_UP and found.carried and found.text != last)


@given(
    st.lists(st.sampled_from(CONTEXTS) | st.text(max_size=9), min_size=1, max_size=3),
    st.lists(st.sampled_from(CONTEXTS) | st.text(max_size=9), min_size=1, max_size=3),
    st.sampled_from(BARE),
)
def test_from_two_contexts_a_bare_follow_up_gets_two_texts(one: list[str], other: list[str], last: str) -> None:
    here, there = context.compare([*one, last]), context.compare([*other, last])
    if here is not None and there is not None and here.text == there.text:
        assert [one[at] for at in here.carried] == [other[at] for at in there.carried]
        for turns, found in ((one, here), (other, there)):
            start = found.carried[0]
            assert start == 0 or context.compare(turns[: start + 1]) == context.Comparison(Kind.ALONE, turns[start])


@given(st.lists(st.text(max_size=40) | st.sampled_from(CONTEXTS), min_size=2, max_size=5))
def test_any_turns_have_a_comparison_or_none_and_it_ends_with_what_was_asked(turns: list[str]) -> None:
    found = context.compare(turns)
    if found is not None:
        assert found.text == context.SEPARATOR.join([*(turns[at] for at in found.carried), turns[-1]])
        assert (found.kind is Kind.ALONE) == (not found.carried) == (not found.words)


@pytest.mark.parametrize(
    ("here", "there", "guard"),
    [
        ([PARIS, "And in 2019?"], [PARIS, "And in 2020?"], "numbers"),
        ([PARIS, "And in Berlin?"], ["What is the best restaurant in Rome?", "And in Berlin?"], "entities"),
        ([PARIS, "And in Berlin?"], ["What is the best restaurant in Berlin?", "And in Paris?"], "order"),
        ([PARIS, "And in Berlin?"], ["What is not the best restaurant in Paris?", "And in Berlin?"], "negation"),
    ],
)
def test_the_guards_and_features_see_every_turn(here: list[str], there: list[str], guard: str) -> None:
    texts = [context.SEPARATOR.join(turns) for turns in (here, there)]
    said = {word.guard: word.passed for word in guards.words(*map(guards.read, texts))}
    assert not said[guard]
    row, words = features.compare(texts[0], [Candidate(1, 0.9, texts[1])], {})
    assert row[0][features.NAMES.index(guard)] == 1.0
    assert {word.guard for word in words[0] if not word.passed} >= {guard}


def test_the_sign_between_turns_says_nothing_by_itself() -> None:
    texts = [context.SEPARATOR.join(turns) for turns in ([PARIS, "And in Berlin?"], [PARIS, "and in berlin"])]
    assert all(word.passed for word in guards.words(*map(guards.read, texts)))


def test_a_long_conversation_keeps_its_history_without_being_read() -> None:
    turns = ["Hello!"] * (context.MOST - 1) + ["What is the capital of France?"]
    assert context.compare(turns) is not None
    assert context.compare(["Hello!", *turns]) is None
