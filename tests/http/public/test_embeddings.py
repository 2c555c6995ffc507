import base64
import struct

import pytest
from openai import AsyncOpenAI, BadRequestError, InternalServerError

from edgecache.embed.hashing import HashingEmbedder
from tests.conftest import MODEL, Pop


@pytest.fixture
async def client(pop: Pop):
    async with AsyncOpenAI(base_url=pop.url + "/v1", api_key="x", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("name", ["hashing", "edgecache/hashing"])
async def test_the_local_embedder_answers_under_both_of_its_names(client: AsyncOpenAI, name: str) -> None:
    answer = await client.embeddings.create(model=name, input=["hello world", "bye"], encoding_format="float")
    assert answer.model == name
    assert [row.index for row in answer.data] == [0, 1]
    assert answer.data[0].embedding == pytest.approx(HashingEmbedder().encode([_ids("hello world")])[0].tolist())
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 3


def _ids(text: str) -> list[int]:
    return list(HashingEmbedder().tokenise([text])[0])


async def test_base64_is_the_same_numbers_as_little_endian_floats(client: AsyncOpenAI) -> None:
    numbers = (
        (await client.embeddings.create(model="hashing", input="hello", encoding_format="float")).data[0].embedding
    )
    raw = await client.embeddings.with_raw_response.create(model="hashing", input="hello", encoding_format="base64")
    packed = raw.http_response.json()["data"][0]["embedding"]
    assert list(struct.unpack("<384f", base64.b64decode(packed))) == pytest.approx(numbers)
    assert raw.headers["x-edgecache-upstream"] == "local"


@pytest.mark.parametrize("form", ["one", "list"])
async def test_token_ids_are_those_of_the_embedder(client: AsyncOpenAI, form: str) -> None:
    ids = _ids("hello world")
    tokens = await client.embeddings.create(model="hashing", input=ids if form == "one" else [ids])
    text = await client.embeddings.create(model="hashing", input="hello world")
    assert tokens.data[0].embedding == text.data[0].embedding


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [""]}, "input[0]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [[-1]]}, "input[0]"),
        ({"input": [[2**32]]}, "input[0]"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": "word " * 600}, "input"),
        ({"input": "x", "dimensions": 5}, "dimensions"),
        ({"input": "x", "encoding_format": "hex"}, "encoding_format"),
    ],
)
async def test_what_the_embedder_cannot_do_is_400_and_says_where(client: AsyncOpenAI, fields, param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        await client.embeddings.create(model="hashing", **fields)
    assert caught.value.param == param


async def test_its_own_dimension_may_be_asked_for(client: AsyncOpenAI) -> None:
    assert (await client.embeddings.create(model="hashing", input="x", dimensions=384)).data


async def test_another_model_is_proxied(client: AsyncOpenAI) -> None:
    raw = await client.embeddings.with_raw_response.create(model=MODEL, input="hello")
    assert raw.headers["x-edgecache-upstream"] == "core"
    assert raw.parse().data[0].embedding


async def test_an_embedder_that_is_gone_is_503(pop: Pop, client: AsyncOpenAI) -> None:
    pop.daemon.embedder.close()
    with pytest.raises(InternalServerError) as caught:
        await client.embeddings.create(model="hashing", input="x")
    assert (caught.value.status_code, caught.value.code) == (503, "overloaded")
