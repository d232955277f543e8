"""OpenAI's API: what all its endpoints share, and embeddings."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from modelyard_server.package.tokens import Row
from modelyard_server.protocols.body import Strict
from modelyard_server.protocols.endpoint import answer, check_count, read_body, ready_predictor, unless_gone
from modelyard_server.protocols.problem import Problem, bad_request, unsupported
from modelyard_server.runtimes.runtime import Floats
from modelyard_server.serving.predictor import Predictor
from modelyard_server.serving.service import Service


class OpenAIRequest(Strict):
    """What every request says. Fields that aren't known are refused by name; on some that are, no answer depends."""

    model: str
    user: str | None = None  # whom the caller asks for
    safety_identifier: str | None = None  # the same, by its newer name
    prompt_cache_key: str | None = None  # which requests begin alike
    metadata: dict[str, Any] | None = None  # by what the caller finds it again


class EmbeddingsRequest(OpenAIRequest):
    """The body of POST /v1/embeddings. Ours are `truncate`: cut what is too long; and `token_ids`: ids may be given."""

    input: Any
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    truncate: bool | None = None
    token_ids: bool | None = None


def render(problem: Problem) -> dict[str, Any]:
    """OpenAI's error."""
    kind = "invalid_request_error" if problem.status < 500 else "server_error"
    return {"error": {"message": problem.message, "type": kind, "param": problem.param, "code": problem.code}}


def check_model(service: Service, name: str) -> None:
    """Raises Problem (404) for another model."""
    if name != service.config.name:
        raise Problem(
            404,
            f"there is no model {name!r} here; there is {service.config.name!r}",
            param="model",
            code="model_not_found",
        )


class Embeddings:
    """POST /v1/embeddings."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, request: Request) -> Response:
        """Raises Problem and what the predictor raises."""
        body = await read_body(self._service, request, EmbeddingsRequest)
        check_model(self._service, body.model)
        predictor = ready_predictor(self._service)
        [size] = predictor.head.list_outputs()[0].shape
        if body.dimensions not in (None, size):
            raise unsupported(f"dimensions {body.dimensions}", f"this model's embeddings have {size} numbers")
        rows = await _read_input(body, predictor)
        vectors = await unless_gone(request, predictor.answer(rows))
        tokens = sum(map(len, rows))
        self._service.metrics.see_finished(tokens)
        encode = _encode_base64 if body.encoding_format == "base64" else np.ascontiguousarray
        return answer(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": index, "embedding": encode(vector)}
                    for index, vector in enumerate(vectors)
                ],
                "model": body.model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )


async def _read_input(body: EmbeddingsRequest, predictor: Predictor) -> list[Row]:
    """A text, texts, and if that is said a text's token ids, or those of several. Raises Problem, TooLong."""
    given, truncate = body.input, body.truncate or False
    if isinstance(given, str):
        rows = await predictor.encode([given], truncate=truncate)
    elif not isinstance(given, list) or not given:
        raise bad_request("input must be a string, token ids, or a list of one of them, not empty", "input")
    elif all(isinstance(item, str) for item in given):
        check_count(len(given), "input")
        rows = await predictor.encode(given, truncate=truncate)
    else:
        if not body.token_ids and isinstance(given[0], int | list):
            # Any ids have vectors, and nobody would notice that they are those of other texts.
            raise unsupported(
                "input of token ids",
                "clients make them with OpenAI's tokenizer (tiktoken), which is not this model's: send the text"
                " (langchain's OpenAIEmbeddings does with check_embedding_ctx_length=False), or say token_ids: true if"
                " they are of the model's own tokenizer",
            )
        lists = given if isinstance(given[0], list) else [given]
        check_count(len(lists), "input")
        most = predictor.package.tokens.vocabulary
        rows = [predictor.take(check_ids(ids, most, "input"), truncate=truncate) for ids in lists]
    for index, row in enumerate(rows):
        if not len(row):
            raise bad_request(f"text {index} has no tokens", "input")
    return rows


def check_ids(ids: Any, vocabulary: int, param: str) -> Sequence[int]:
    """Token ids, if they are. Raises Problem."""
    # True is an int to Python.
    if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < vocabulary for i in ids):
        raise bad_request(
            f"{param} must be all strings, or all token ids, whole numbers from 0 to {vocabulary - 1}", param
        )
    return ids


def _encode_base64(vector: Floats) -> str:
    """Little-endian float32, as OpenAI's own clients read it."""
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()
