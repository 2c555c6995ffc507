"""Embeddings: by this POP's own embedder if its name is asked for, else like any other request."""

import base64
from typing import Any

from aiohttp import web

from edgecache.embed.base import Matrix
from edgecache.errors import BadRequest, EmbedError, Overloaded, TextTooLong
from edgecache.http import respond
from edgecache.http.exchange import EXCHANGE
from edgecache.http.public import openai as completions
from edgecache.http.services import SERVICES
from edgecache.types import Call, Endpoint
from edgecache.wire.jsontext import encode

_DEADLINE = 30.0
"""Seconds a batch may wait for its vectors; lookups have `embed.deadline`, a client that asks for vectors can wait."""
_MAX_INPUTS = 2048
"""As at OpenAI."""


async def create(request: web.Request) -> web.StreamResponse:
    """`POST /v1/embeddings`."""
    call = await completions.read(request, Endpoint.EMBEDDINGS)
    name = request.app[SERVICES].batcher.embedder.name
    if call.model in {name, "edgecache/" + name}:
        return await _local(request, call)
    return await completions.serve(request, call)


async def _local(request: web.Request, call: Call) -> web.StreamResponse:
    services, exchange = request.app[SERVICES], request[EXCHANGE]
    batcher = services.batcher
    packed = _packed(call.body, batcher.embedder.dimension)
    inputs = _inputs(call.body.get("input"))
    try:
        with exchange.trace.stage("embed"):
            vectors, tokens = await batcher.embed_many(inputs, deadline=_DEADLINE)
    except TextTooLong as error:
        raise BadRequest(error.message, param="input") from error
    except EmbedError as error:
        raise Overloaded(f"The embedder is not available: {error.message}", retry_after=1.0) from error
    body = _body(call.model, vectors, tokens, packed=packed)
    return respond.complete(services, request, exchange, 200, body, extra="x-edgecache-upstream: local\r\n")


def _packed(body: Any, dimension: int) -> bool:
    """Whether base64 is wanted; raises BadRequest for what this embedder cannot do."""
    if body.get("dimensions") not in {None, dimension}:
        raise BadRequest(f"This model has {dimension} dimensions, no more and no fewer.", param="dimensions")
    encoding = body.get("encoding_format") or "float"
    if encoding not in {"float", "base64"}:
        raise BadRequest("`encoding_format` is `float` or `base64`.", param="encoding_format")
    return bool(encoding == "base64")


def _inputs(given: Any) -> list[str] | list[list[int]]:
    """`input` as a list of texts or of token lists; which token ids there are the embedder knows."""
    if isinstance(given, str) or (isinstance(given, list) and given and type(given[0]) is int):
        given = [given]
    if not isinstance(given, list) or not 1 <= len(given) <= _MAX_INPUTS:
        raise BadRequest(f"`input` is 1 to {_MAX_INPUTS} texts, or as many lists of token ids.", param="input")
    if all(isinstance(item, str) and item for item in given) or all(_is_tokens(item) for item in given):
        return given
    raise BadRequest(
        "`input` is a non-empty text, a list of them, a list of token ids, or a list of such lists. Token ids must be "
        "those of this model's own tokeniser.",
        param="input",
    )


def _is_tokens(item: Any) -> bool:
    return isinstance(item, list) and bool(item) and all(type(token) is int for token in item)


def _body(model: str, vectors: Matrix, tokens: int, *, packed: bool) -> bytes:
    rows = vectors.astype("<f4", copy=False)
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(row.tobytes()).decode() if packed else row.tolist(),
        }
        for index, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return encode({"object": "list", "data": data, "model": model, "usage": usage})
