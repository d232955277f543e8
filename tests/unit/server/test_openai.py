"""OpenAI's embeddings and models, over ASGI."""

from __future__ import annotations

import asyncio
import base64
import gzip
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import orjson
from modelyard_server.app import make_app
from modelyard_server.protocols.body import MAX_ROWS
from modelyard_server.tasks import find_task

from tests.unit.server.models import TEXTS, answer, client_of, make_service, serving, with_client

TASK = "embeddings"
EMBED = "/v1/embeddings"


def make_body(given: Any, **more: Any) -> dict[str, Any]:
    return {"model": "toy", "input": given, **more}


def vectors_of(response: httpx2.Response) -> Any:
    told = response.json()
    assert response.status_code == 200, told
    assert (told["object"], told["model"]) == ("list", "toy")
    assert [one["index"] for one in told["data"]] == list(range(len(told["data"])))
    assert {one["object"] for one in told["data"]} == {"embedding"}
    return np.array([one["embedding"] for one in told["data"]], np.float32)


def test_texts_and_token_ids_alone_and_many_give_the_same_vectors(encoder: Path) -> None:
    service = make_service(encoder, TASK)

    async def whole() -> None:
        async with serving(service) as model, client_of(make_app(service, find_task(TASK))) as client:
            expected = np.stack(await answer(model, *TEXTS))
            ids = [row.ids.tolist() for row in await model.encode(TEXTS, truncate=False)]
            for given, rows in (
                (TEXTS, slice(None)),
                (TEXTS[0], slice(1)),
                (ids, slice(None)),
                (ids[0], slice(1)),
            ):
                own = {} if isinstance(given[0], str) else {"token_ids": True}
                told: dict[str, Any] = {
                    "user": "somebody",
                    "safety_identifier": "hash",
                    "prompt_cache_key": "key",
                    "metadata": {"session": "1"},
                }
                body = make_body(given, dimensions=32, **told, **own)
                response = await client.post(EMBED, json=body)
                np.testing.assert_allclose(vectors_of(response), expected[rows], atol=1e-5)
                tokens = sum(map(len, ids[rows]))
                assert response.json()["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}

    asyncio.run(whole())


def test_base64_holds_the_same_numbers(encoder: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        plain = vectors_of(await client.post(EMBED, json=make_body("a dog", encoding_format="float")))
        packed = (await client.post(EMBED, json=make_body("a dog", encoding_format="base64"))).json()
        found = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
        np.testing.assert_array_equal(found, plain[0])

    with_client(make_service(encoder, TASK), test)


REFUSED: list[tuple[Any, int, str | None, str]] = [
    (b"{", 400, None, "the body is no JSON"),
    ({"input": "a"}, 400, "model", "model: Field required"),
    (make_body("a", model="gpt-4"), 404, "model", "there is no model 'gpt-4' here"),
    (make_body("a", dimensions=8), 400, "dimensions", "this model's embeddings have 32 numbers"),
    (make_body("a", dimensions=True), 400, "dimensions", "dimensions: Input should be a valid integer"),
    (make_body("a", encoding_format="int8"), 400, "encoding_format", "encoding_format: Input should be"),
    (make_body("a", temperature=1), 400, "temperature", "temperature isn't supported"),
    (make_body("a", truncate="yes"), 400, "truncate", "truncate: Input should be a valid boolean"),
    (make_body([]), 400, "input", "not empty"),
    (make_body(None), 400, "input", "input must be a string"),
    (make_body({"text": "a"}), 400, "input", "input must be a string"),
    (make_body([5, 6]), 400, "input", "check_embedding_ctx_length=False"),
    (make_body([[57668, 53901]]), 400, "input", "say token_ids: true"),
    (make_body([5], token_ids=False), 400, "input", "input of token ids isn't supported"),
    (make_body("a", token_ids="yes"), 400, "token_ids", "token_ids: Input should be a valid boolean"),
    (make_body(["a", 1]), 400, "input", "input must be all strings, or all token ids"),
    (make_body([1, "a"], token_ids=True), 400, "input", "input must be all strings, or all token ids"),
    (make_body([1, [2]], token_ids=True), 400, "input", "input must be all strings, or all token ids"),
    (make_body([320], token_ids=True), 400, "input", "from 0 to 319"),
    (make_body([-1], token_ids=True), 400, "input", "from 0 to 319"),
    (make_body([1.5], token_ids=True), 400, "input", "from 0 to 319"),
    (make_body([True], token_ids=True), 400, "input", "from 0 to 319"),
    (make_body([[]], token_ids=True), 400, "input", "text 0 has no tokens"),
    (make_body(["a"] * (MAX_ROWS + 1)), 400, "input", f"a request has 1 to {MAX_ROWS} texts"),
    (make_body("dog " * 200), 400, None, "and this model takes 64"),
    (make_body([5] * 65, token_ids=True), 400, None, "a text has 65 tokens, and this model takes 64"),
]


def test_what_is_wrong_or_not_supported_is_refused_in_openais_form(encoder: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        for body, status, param, said in REFUSED:
            response = await client.post(
                EMBED, content=body if isinstance(body, bytes) else orjson.dumps(body)
            )
            assert response.status_code == status, body
            error = response.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert (error["type"], error["param"]) == ("invalid_request_error", param), error
            assert said in error["message"]
        long = (await client.post(EMBED, json=make_body("dog " * 200))).json()["error"]
        assert long["code"] == "context_length_exceeded"

    with_client(make_service(encoder, TASK), test)


def test_a_packed_body_is_refused_by_the_name_of_its_header(encoder: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        plain = orjson.dumps(make_body("a dog"))
        for name, content in (
            ("gzip", gzip.compress(plain)),
            (" GZIP ", gzip.compress(plain)),
            ("br", plain),
        ):
            response = await client.post(EMBED, content=content, headers={"Content-Encoding": name})
            assert (response.status_code, response.headers["accept-encoding"]) == (415, "identity")
            said = f"Content-Encoding {name.strip()!r} isn't supported: send the JSON as it is"
            assert response.json()["error"]["message"] == said
        for name in ("", "identity"):
            vectors_of(await client.post(EMBED, content=plain, headers={"Content-Encoding": name}))

    with_client(make_service(encoder, TASK), test)


def test_what_is_too_long_is_cut_where_that_is_asked_for(encoder: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        for given in ("dog " * 200, [5] * 200):
            response = await client.post(EMBED, json=make_body(given, truncate=True, token_ids=True))
            assert response.json()["usage"]["prompt_tokens"] == 64

    with_client(make_service(encoder, TASK), test)


def test_models_and_what_this_server_has_not(encoder: Path, classifier: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        listed = (await client.get("/v1/models")).json()
        [model] = listed["data"]
        assert (listed["object"], model["id"], model["object"]) == ("list", "toy", "model")
        assert (model["owned_by"], model["max_model_len"]) == ("modelyard", 64)
        assert (await client.get("/v1/models/toy")).json() == model
        for response in (
            await client.get("/v1/models/other"),
            await client.post("/v1/chat/completions", json={}),
        ):
            assert response.status_code == 404
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}

    with_client(make_service(encoder, TASK), test)

    async def of_a_classifier(client: httpx2.AsyncClient) -> None:
        response = await client.post(EMBED, json=make_body("a"))
        assert response.status_code == 404
        assert "this server's task is text-classification" in response.json()["error"]["message"]

    with_client(make_service(classifier, "text-classification"), of_a_classifier)
