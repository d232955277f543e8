"""A real server of a real chat model, asked by the unmodified OpenAI client; and the ways in which generation ends."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from modelyard.contract.codes import EXIT_OK, EXIT_TEMPORARY

from tests.server.chat_model import prepare_chat_model
from tests.server.running import Server, running
from tests.server.test_process import metric
from tests.unit.server.models import write_generator

TASK = "text-generation"
QUESTIONS = [
    "What is the capital of France?", "Name three colours.", "Say hello in Spanish.", "What is 2 + 2?",
    "Write a line about the sea.", "Who wrote Hamlet?", "What do cows eat?", "Count to five.",
]  # fmt: skip


def ask_for(question: str) -> Any:
    return [{"role": "user", "content": question}]


@pytest.fixture(scope="module")
def chat_model() -> Path:
    return prepare_chat_model()


@pytest.fixture(scope="module")
def smol(chat_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the tests here ask and don't end."""
    with running(chat_model, tmp_path_factory.mktemp("smol"), TASK, maxLength=512, maxQueue=16) as server:
        server.until_ready()
        yield server


@pytest.fixture
def client(smol: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{smol.url}/v1", api_key="none", max_retries=0, timeout=120) as made:
        yield made


@pytest.fixture(scope="module")
def expected(chat_model: Path) -> dict[str, str]:
    """What transformers' generate() answers to each question, alone."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(chat_model)
    model = transformers.AutoModelForCausalLM.from_pretrained(chat_model).eval()
    found = {}
    for question in QUESTIONS:
        given = tokenizer.apply_chat_template(
            ask_for(question), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        made = model.generate(**given, max_new_tokens=16, do_sample=False)
        new = made[0, given["input_ids"].shape[1] :]
        found[question] = tokenizer.decode(new, skip_special_tokens=True)
    return found


def test_the_openai_client_gets_what_transformers_generates(
    client: openai.OpenAI, expected: dict[str, str]
) -> None:
    assert [model.id for model in client.models.list()] == ["toy"]
    told = client.chat.completions.create(
        model="toy", messages=ask_for(QUESTIONS[0]), temperature=0, max_completion_tokens=16
    )
    assert told.choices[0].message.content == expected[QUESTIONS[0]]
    assert "Paris" in expected[QUESTIONS[0]]
    assert told.choices[0].finish_reason in ("stop", "length")
    assert told.usage is not None
    assert told.usage.total_tokens == told.usage.prompt_tokens + told.usage.completion_tokens
    text = client.completions.create(
        model="toy", prompt="The capital of France is", temperature=0, max_tokens=4
    )
    assert "Paris" in text.choices[0].text


def test_eight_streams_at_once_are_each_right(client: openai.OpenAI, expected: dict[str, str]) -> None:
    def stream(question: str) -> tuple[str, int, int]:
        pieces, usage = [], None
        for chunk in client.chat.completions.create(
            model="toy", messages=ask_for(question), temperature=0, max_tokens=16, stream=True,
            stream_options={"include_usage": True},
        ):  # fmt: skip
            usage = chunk.usage or usage
            pieces += [choice.delta.content or "" for choice in chunk.choices]
        assert usage is not None
        return "".join(pieces), len(pieces), usage.completion_tokens

    with ThreadPoolExecutor(8) as pool:
        for question, (text, pieces, tokens) in zip(QUESTIONS, pool.map(stream, QUESTIONS), strict=True):
            assert text == expected[question]
            assert pieces > 3  # token by token, not at once
            assert tokens <= 16


def test_a_real_answer_ends_by_itself_and_at_a_stop(client: openai.OpenAI) -> None:
    told = client.chat.completions.create(model="toy", messages=ask_for(QUESTIONS[0]), temperature=0)
    assert told.choices[0].finish_reason == "stop"
    assert "<|im_end|>" not in (told.choices[0].message.content or "")
    cut = client.chat.completions.create(
        model="toy", messages=ask_for(QUESTIONS[0]), temperature=0, stop=["of France", "never"]
    )
    assert cut.choices[0].finish_reason == "stop"
    assert cut.choices[0].message.content == (told.choices[0].message.content or "").partition("of France")[0]


def test_errors_are_the_clients_own_kinds(client: openai.OpenAI) -> None:
    def ask(**more: Any) -> Any:
        return client.chat.completions.create(**{"model": "toy", "messages": ask_for("a"), **more})

    with pytest.raises(openai.BadRequestError, match="n isn't supported") as refused:
        ask(n=2)
    assert refused.value.param == "n"
    with pytest.raises(openai.BadRequestError) as long:
        ask(messages=ask_for("word " * 600))
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as absent:
        ask(model="gpt-4")
    assert absent.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="toy", input="a")


def test_the_event_loop_answers_while_the_model_computes(smol: Server, client: openai.OpenAI) -> None:
    """A prompt of many tokens is computed for longer than a health check takes."""
    before = metric(smol, "vllm:prompt_tokens_total")
    asking = threading.Thread(
        target=lambda: client.completions.create(
            model="toy", prompt=[3000 + i for i in range(480)], max_tokens=1, temperature=0
        )
    )
    asking.start()
    answers = 0
    while asking.is_alive():
        assert smol.readiness()[0] == 200
        answers += 1
    assert answers > 3
    assert metric(smol, "vllm:prompt_tokens_total") == before + 480


def send_raw(server: Server, body: dict[str, Any]) -> socket.socket:
    port = int(server.url.rpartition(":")[2])
    content = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


@pytest.mark.parametrize("stream", [True, False])
def test_who_hangs_up_is_not_computed_for_any_more(smol: Server, stream: bool) -> None:
    body = {"model": "toy", "messages": ask_for("Tell a long story."), "stream": stream, "temperature": 0}
    before = metric(smol, "vllm:generation_tokens_total")
    connection = send_raw(smol, body)
    if stream:
        assert b"200" in connection.recv(100)
    else:
        smol.until("computing", lambda: metric(smol, "vllm:generation_tokens_total") > before)
    assert metric(smol, "vllm:num_requests_running") == 1
    connection.close()
    smol.until("a free place", lambda: metric(smol, "vllm:num_requests_running") == 0)
    assert metric(smol, "vllm:num_requests_waiting") == 0
    assert metric(smol, "vllm:generation_tokens_total") < before + 200


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "toy"
    write_generator(folder, max_position_embeddings=4096)
    return folder


def test_a_stream_that_runs_when_the_server_is_stopped_is_finished(toy: Path, tmp_path: Path) -> None:
    async def whole(server: Server) -> tuple[int, str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            stream = await client.completions.create(
                model="toy", prompt="the", max_tokens=1500, temperature=1, seed=3, stream=True,
                stream_options={"include_usage": True},
            )  # fmt: skip
            made, stopped, reason = 0, False, ""
            async for chunk in stream:
                if not stopped:
                    server.stop()
                    stopped = True
                made = chunk.usage.completion_tokens if chunk.usage else made
                for choice in chunk.choices:
                    reason = str(choice.finish_reason)  # the last one's counts
            return made, reason

    with running(toy, tmp_path / "run", TASK, maxQueue=4, drainSeconds=60) as server:
        server.until_ready()
        made, reason = asyncio.run(whole(server))
        assert reason == "stop" or made == 1500
        assert server.wait() == EXIT_OK
        assert "Traceback" not in server.log.read_text()


CRASHING = """
import sys
from modelyard_server.generation import sampling
def draw(*args):
    raise RuntimeError("the kernel is broken")
sampling.draw = draw
from modelyard_server.__main__ import main
import os
os._exit(main([]))
"""


def test_a_crash_of_generation_ends_the_process_with_the_reason(toy: Path, tmp_path: Path) -> None:
    with running(toy, tmp_path / "run", TASK, maxQueue=4, program=["-c", CRASHING]) as server:
        server.until_ready()
        url = f"{server.url}/v1"
        with (
            openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client,
            pytest.raises(openai.InternalServerError),
        ):
            client.completions.create(model="toy", prompt="the", temperature=1)
        server.until("reason", lambda: "the kernel is broken" in server.readiness()[1])
        assert server.wait() == EXIT_TEMPORARY
        told = json.loads(server.result.read_text())
        assert (told["reason"], told["exitCode"]) == ("ModelCrashed", EXIT_TEMPORARY)
        assert "the kernel is broken" in told["message"]
