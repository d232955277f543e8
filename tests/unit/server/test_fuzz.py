"""Whatever is sent, there is an answer in the protocol's form, with a right status, and no traceback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from modelyard_server.app import make_app
from modelyard_server.tasks import find_task

from tests.unit.server.models import client_of, make_service, serving_any, write_generator

ask_often = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
Asker = Callable[[str, str, bytes], httpx2.Response]

words = st.sampled_from(
    ["text", "a", "BYTES", "FP32", "toy", "label", "scores", "truncate", "float", "base64", ""]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | words
    | st.text(max_size=8)
)
names = st.sampled_from(
    ["inputs", "outputs", "parameters", "name", "shape", "datatype", "data", "id", "model", "input", "user",
     "encoding_format", "dimensions", "truncate", "scores", "binary_data"]
) | st.text(max_size=4)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5),
    max_leaves=12,
)
tensors = st.fixed_dictionaries(
    {
        "name": words,
        "shape": st.lists(st.integers(-1, 3), max_size=3),
        "datatype": words,
        "data": st.lists(values, max_size=3),
    },
    optional={"parameters": st.dictionaries(names, scalars, max_size=2)},
)
almost = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=2) | values},
    optional={
        "outputs": st.lists(st.dictionaries(names, scalars, max_size=2), max_size=2),
        "parameters": values,
        "id": values,
    },
)
embeddings = st.fixed_dictionaries(
    {
        "model": st.just("toy") | scalars,
        "input": values | st.lists(st.integers(-2, 330), max_size=9) | st.lists(words, max_size=4),
    },
    optional={
        "encoding_format": words,
        "dimensions": scalars,
        "truncate": scalars,
        "user": scalars,
        "token_ids": st.just(True) | scalars,
    },
)


def dump(value: Any) -> bytes:
    """As callers in other languages do, whose numbers have no bound."""
    return json.dumps(value).encode()


completions = st.fixed_dictionaries(
    {"model": st.just("toy")},
    optional={
        "prompt": values | words | st.lists(st.integers(-2, 330), max_size=20),
        "messages": values
        | st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["user", "assistant", "x"]), "content": words | values}
            ),
            max_size=3,
        ),
        "max_tokens": st.integers(-1, 9) | scalars,
        "temperature": st.floats(-0.5, 2.5) | scalars,
        "top_p": st.floats(-0.5, 1.5) | scalars,
        "seed": st.integers() | scalars,
        "stop": words | st.lists(words, max_size=5) | scalars,
        "stream": st.booleans() | scalars,
        "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}) | values,
        "n": scalars,
        "logprobs": scalars,
        "user": scalars,
    },
)


@contextmanager
def asking(folder: Path, task: str) -> Iterator[Asker]:
    """A function that sends one request to a server that stays up meanwhile."""
    service = make_service(folder, task, max_length=16)
    with asyncio.Runner() as runner:
        server = serving_any(service)
        runner.run(server.__aenter__())
        client = client_of(make_app(service, find_task(task)))

        def ask(method: str, path: str, content: bytes) -> httpx2.Response:
            return runner.run(client.request(method, path, content=content))

        yield ask
        runner.run(server.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def classify(classifier: Path) -> Iterator[Asker]:
    with asking(classifier, "text-classification") as ask:
        yield ask


@pytest.fixture(scope="module")
def embed(encoder: Path) -> Iterator[Asker]:
    with asking(encoder, "embeddings") as ask:
        yield ask


@pytest.fixture(scope="module")
def generate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    folder = tmp_path_factory.mktemp("causal") / "model"
    write_generator(folder)
    with asking(folder, "text-generation") as ask:
        yield ask


def check(response: httpx2.Response, *, openai: bool) -> None:
    told = response.json()
    assert "Traceback" not in response.text
    assert 'File "' not in response.text
    if response.status_code == 200:
        assert "error" not in told
    else:
        assert response.status_code in (400, 404, 405), told
        error = told["error"]
        assert (set(error) == {"message", "type", "param", "code"}) if openai else isinstance(error, str)


@ask_often
@given(st.binary(max_size=60) | values.map(orjson.dumps) | almost.map(orjson.dumps))
def test_oip(classify: Asker, content: bytes) -> None:
    check(classify("POST", "/v2/models/toy/infer", content), openai=False)


@ask_often
@given(st.binary(max_size=60) | values.map(orjson.dumps) | embeddings.map(orjson.dumps))
def test_openai(embed: Asker, content: bytes) -> None:
    check(embed("POST", "/v1/embeddings", content), openai=True)


@ask_often
@given(
    st.text(max_size=40) | st.lists(st.text(max_size=20), min_size=1, max_size=6),
    st.sampled_from(["float", "base64"]),
)
def test_any_text_is_embedded_or_told_to_be_too_long(embed: Asker, text: str | list[str], form: str) -> None:
    try:
        content = orjson.dumps({"model": "toy", "input": text, "encoding_format": form})
    except TypeError:  # half of a character: no UTF-8
        return
    response = embed("POST", "/v1/embeddings", content)
    check(response, openai=True)
    if response.status_code != 200:
        assert response.json()["error"]["code"] == "context_length_exceeded"


@ask_often
@given(
    st.sampled_from(["/v1/completions", "/v1/chat/completions"]),
    st.binary(max_size=60) | values.map(orjson.dumps) | completions.map(dump),
)
def test_completions(generate: Asker, path: str, content: bytes) -> None:
    response = generate("POST", path, content)
    if response.headers["content-type"].startswith("text/event-stream"):
        assert response.status_code == 200
        assert response.text.endswith("data: [DONE]\n\n")
    else:
        check(response, openai=True)


@ask_often
@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]),
    st.lists(
        st.sampled_from(
            ["v2", "v1", "models", "toy", "infer", "health", "ready", "versions", "r1", "..", "%00", "é"]
        ),
        max_size=6,
    ),
)
def test_any_path_and_method(classify: Asker, method: str, parts: list[str]) -> None:
    response = classify(method, "/" + "/".join(parts), b"")
    if method != "HEAD" and response.status_code != 200:
        check(response, openai=response.request.url.path.startswith("/v1/"))


def test_what_is_asked_after_all_that_is_answered(classify: Asker, embed: Asker) -> None:
    body: dict[str, Any] = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
    assert classify("POST", "/v2/models/toy/infer", orjson.dumps(body)).status_code == 200
    assert embed("POST", "/v1/embeddings", b'{"model": "toy", "input": "a"}').status_code == 200
