"""The choices that answer a request to the scripted core, from the start or from where somebody has stopped.

A chat is continued where `continue_final_message` is true, `add_generation_prompt` false and the last message is the
assistant's (vLLM's fields). A completion is continued where its prompt ends with a beginning, of one whole word or
more, of the answer to what stands before it: a model would see nothing but more prompt, either. Both go on exactly as
the whole answer would have; after a beginning that is not its own the whole answer follows.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edgecache.sim import habits, words
from edgecache.sim.ask import Ask
from edgecache.sim.words import Generated
from edgecache.types import Endpoint

_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def choices(ask: Ask, dialect: str, seed: int) -> list[Generated]:
    """As many as the request wants and the dialect gives; `seed` counts where the request has none."""
    body = ask.body
    limit = next((value for name in _LIMITS if (value := body.get(name)) is not None), None)
    stop = body.get("stop") or ()
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    first = seed if body.get("seed") is None else body["seed"]
    fill = body.get("ignore_eos") is True

    def answer(question: str, index: int, limit: int | None) -> Generated:
        return words.answer(ask.model, question, first + index, limit, stops, fill=fill, name=ask.answer)

    enough = len(words.question(body).split()) if fill else None
    question, written = begun(ask.endpoint, body, lambda text: answer(text, 0, enough).text)
    known = len(written.split(" ")) if written else 0
    return [
        _after(answer(question, index, None if limit is None else limit + known), written, limit)
        for index in range(habits.choices(dialect, body.get("n") or 1))
    ]


def begun(endpoint: Endpoint, body: Mapping[str, Any], answer: Callable[[str], str]) -> tuple[str, str]:
    """The question, and what is written of its answer, if anything; `answer` gives the whole one to a question."""
    prompt = body.get("prompt")
    if endpoint is Endpoint.COMPLETIONS and isinstance(prompt, str):
        at = next((at for at in _places(prompt, answer) if answer(prompt[:at]).startswith(prompt[at:])), len(prompt))
        return prompt[:at], prompt[at:]
    last = messages[-1] if isinstance(messages := body.get("messages"), list) and messages else None
    going_on = body.get("continue_final_message") is True and isinstance(last, dict) and last.get("role") == "assistant"
    return words.question(body), words.plain(last["content"]) if going_on and last else ""


def _places(prompt: str, answer: Callable[[str], str]) -> Iterator[int]:
    """Where in `prompt` an answer may begin: where it goes on, or ends, as answers do."""
    for opening in (*words.OPENINGS, answer(prompt)):  # the last is for answers that have a name
        word = opening.split(" ")[0]
        at = prompt.find(word, 1)
        while at > 0:
            if prompt.startswith(opening, at) or opening.startswith(prompt[at:]):
                yield at
            at = prompt.find(word, at + 1)


def _after(whole: Generated, written: str, limit: int | None) -> Generated:
    """What of `whole` comes after `written`, at most `limit` tokens."""
    if not written:
        return whole
    own = whole.text.startswith(written)
    skipped = len(written) if own else 0
    left = []
    for token in whole.tokens if own else (" " + whole.tokens[0], *whole.tokens[1:]):
        if len(token) > skipped:
            left.append(token[skipped:])
        skipped = max(0, skipped - len(token))
    if limit is not None and len(left) > limit:
        return Generated(tuple(left[:limit]), "length")
    return Generated(tuple(left), whole.finish_reason)
