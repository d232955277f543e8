"""A body that is wrong in very many places costs no more than one that is wrong in one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from modelyard_server.protocols.body import MAX_ROWS, Strict
from modelyard_server.protocols.completions import ChatRequest
from modelyard_server.protocols.oip import InferRequest
from modelyard_server.protocols.openai import EmbeddingsRequest
from modelyard_server.protocols.problem import Problem, describe_invalid
from pydantic import ValidationError

MANY = 20_000
TENSOR = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}
TURN = {"role": "user", "content": "a"}
KEYS = {f"key{i}": i for i in range(MANY)}


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "toy", "messages": list(messages), **more}


def refuse(model: type[Strict], body: Any) -> tuple[Problem, int]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    return describe_invalid(caught.value.errors()), caught.value.error_count()


@pytest.mark.parametrize(
    ("model", "body", "said"),
    [
        (InferRequest, {"inputs": [1] * MANY}, "inputs.0: Input should be a valid dictionary"),
        (InferRequest, {"inputs": [{}] * MANY}, "inputs.0.name: Field required"),
        (InferRequest, {"inputs": [TENSOR | {"shape": ["a"] * MANY}]}, "inputs.0.shape.0: Input should be"),
        (InferRequest, {"inputs": [TENSOR], "outputs": [1] * MANY}, "outputs.0: Input should be"),
        (InferRequest, {"inputs": [TENSOR], **KEYS}, "key0 isn't supported"),
        (InferRequest, {"inputs": [TENSOR | KEYS]}, "inputs.0.key0 isn't supported"),
        (InferRequest, {"inputs": [TENSOR] * (MAX_ROWS + 1)}, "inputs: List should have at most 2048 items"),
        (EmbeddingsRequest, {"model": "toy", "input": "a", **KEYS}, "key0 isn't supported"),
        (ChatRequest, chat(*[1] * MANY), "messages.0: Input should be"),
        (ChatRequest, chat(TURN | KEYS), "messages.0.key0 isn't supported"),
        (ChatRequest, chat(TURN | {"content": [1] * MANY}), "messages.0.content.str: Input should be"),
        (ChatRequest, chat(*[TURN] * (MAX_ROWS + 1)), "messages: List should have at most 2048 items"),
        (ChatRequest, chat(TURN, **KEYS), "key0 isn't supported"),
        (ChatRequest, chat(TURN, stream_options=KEYS), "stream_options.key0 isn't supported"),
    ],
)
def test_the_first_mistake_is_told_and_few_are_looked_for(model: type[Strict], body: Any, said: str) -> None:
    problem, errors = refuse(model, body)
    assert problem.message.startswith(said)
    assert errors <= 5


def test_an_unknown_key_is_refused_beside_those_that_ask_for_nothing() -> None:
    body = chat(TURN | {"tool_calls": [], "name": None}, n=1, logprobs=None, echo=False)
    ChatRequest.model_validate(body)
    assert refuse(ChatRequest, body | {"weird": 1})[0].param == "weird"
    assert refuse(ChatRequest, {"weird": 1} | body)[0].param == "weird"
    assert refuse(ChatRequest, body | {"n": 2})[0].param == "n"


def measure(work: Callable[[], object]) -> float:
    """Seconds of the best of three."""
    best = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        with contextlib.suppress(ValidationError):
            work()
        best = min(best, time.perf_counter() - begun)
    return best


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (InferRequest, {"inputs": [TENSOR], **KEYS}),
        (InferRequest, {"inputs": [TENSOR | KEYS]}),
        (ChatRequest, chat(TURN, **KEYS)),
        (ChatRequest, chat(TURN, **dict.fromkeys(KEYS))),
    ],
)
def test_very_many_keys_take_no_longer_to_refuse_than_to_parse(model: type[Strict], body: Any) -> None:
    text = orjson.dumps(body)
    assert measure(lambda: model.model_validate(body)) < measure(lambda: orjson.loads(text))


def test_a_key_is_not_repeated_whole() -> None:
    problem, _ = refuse(InferRequest, {"inputs": [TENSOR], "k" * 100_000: 1})
    assert len(problem.message) < 200
