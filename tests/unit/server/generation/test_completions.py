"""OpenAI's completions, over ASGI."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
import torch
from modelyard_server.app import make_app
from modelyard_server.serving.generator import Generator
from modelyard_server.tasks import find_task
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from tests.unit.server.models import client_of, generating, make_service, with_client, write_generator
from tests.unit.server.test_metrics import read

TASK = "text-generation"
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
USER = [{"role": "user", "content": "the quick brown"}]


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "toy", "messages": USER, "max_tokens": 8, "temperature": 0, **more}


def text(**more: Any) -> dict[str, Any]:
    return {"model": "toy", "prompt": "the quick brown", "max_tokens": 8, "temperature": 0, **more}


def in_parts(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def read_events(response: httpx2.Response) -> list[dict[str, Any]]:
    """The events of a stream that ended as it should."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = response.text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


async def ask(client: httpx2.AsyncClient, path: str, body: Any) -> dict[str, Any]:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    return told


def continue_by_hand(model: Generator, prompt: str, most: int) -> str:
    tokens = model.package.tokens
    ids = tokens._tokenizer(prompt, add_special_tokens=False)["input_ids"]
    made = model._model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), max_new_tokens=most,
        do_sample=False, pad_token_id=0, use_cache=True,
    )[0, len(ids) :]  # fmt: skip
    return str(tokens._tokenizer.decode(made, skip_special_tokens=True)).rstrip("�")


def test_a_conversation_and_a_text_are_continued_as_transformers_does(llama: Path) -> None:
    service = make_service(llama, TASK)

    async def whole() -> None:
        async with generating(service) as model, client_of(make_app(service, find_task(TASK))) as client:
            parts = [{"type": "text", "text": piece} for piece in ("a ", "dog")]
            several = [{"role": "developer", "content": "many words"}, *USER]
            for path, body, prompt in (
                (CHAT, chat(), "user: the quick brown assistant: "),
                (CHAT, chat(messages=several), "system: many words user: the quick brown assistant: "),
                (CHAT, chat(messages=in_parts(*parts)), "user: a dog assistant: "),
                (TEXT, text(), "the quick brown"),
                (TEXT, text(prompt=["the quick brown"]), "the quick brown"),
                (TEXT, text(prompt=model.package.tokens.encode("the lazy dog").ids.tolist()), "the lazy dog"),
            ):  # fmt: skip
                told = await ask(client, path, body)
                [choice] = told["choices"]
                said = choice["message"]["content"] if path == CHAT else choice["text"]
                assert said == continue_by_hand(model, prompt, 8), body
                assert choice["finish_reason"] == "length"
                size = len(model.package.tokens._tokenizer(prompt, add_special_tokens=False)["input_ids"])
                assert told["usage"] == {
                    "prompt_tokens": size,
                    "completion_tokens": 8,
                    "total_tokens": size + 8,
                }
                assert told["object"] == ("chat.completion" if path == CHAT else "text_completion")
                events = read_events(await client.post(path, json=body | {"stream": True}))
                deltas = [one["choices"][0] for one in events]
                pieces = [d["delta"].get("content", "") if path == CHAT else d["text"] for d in deltas]
                assert "".join(pieces) == said
                assert [d["finish_reason"] for d in deltas] == [None] * (len(deltas) - 1) + ["length"]
                assert all("usage" not in one for one in events)
                assert len({one["id"] for one in events}) == 1
                if path == CHAT:
                    assert deltas[0]["delta"]["role"] == "assistant"
                    assert told["object"] + ".chunk" == events[0]["object"]

    asyncio.run(whole())


def test_a_stream_tells_its_usage_where_that_is_asked_for(llama: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        plain = await ask(client, CHAT, chat())
        for said, tells in (
            ({"include_usage": True}, True),
            ({"include_usage": False}, False),
            ({"include_usage": None, "include_obfuscation": False}, False),
            ({}, False),
        ):
            events = read_events(await client.post(CHAT, json=chat(stream=True, stream_options=said)))
            if tells:
                assert (events[-1]["choices"], events[-1]["usage"]) == ([], plain["usage"])
                assert all(one["usage"] is None for one in events[:-1])
            else:
                assert all("usage" not in one for one in events)

    with_client(make_service(llama, TASK), test)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_ends_before_a_stop_and_says_so(llama: Path, stream: bool) -> None:
    async def said(client: httpx2.AsyncClient, **more: Any) -> tuple[str, str, int]:
        body = text(max_tokens=24, **more)
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            *events, last, usage = read_events(await client.post(TEXT, json=body))
            whole = "".join(one["choices"][0]["text"] for one in events)
            return whole, last["choices"][0]["finish_reason"], usage["usage"]["completion_tokens"]
        told = await ask(client, TEXT, body)
        return (
            told["choices"][0]["text"],
            told["choices"][0]["finish_reason"],
            told["usage"]["completion_tokens"],
        )

    async def test(client: httpx2.AsyncClient) -> None:
        whole, reason, made = await said(client)
        assert (reason, made) == ("length", 24)
        for begin, end in ((3, 5), (8, 12), (0, 1), (len(whole) - 1, len(whole))):
            stop = whole[begin:end]
            found = await said(client, stop=["never that", stop])
            assert found[:2] == (whole[: whole.find(stop)], "stop")
            assert found[2] <= 24
        assert await said(client, stop="never that") == (whole, "length", 24)

    with_client(make_service(llama, TASK), test)


def test_a_token_that_ends_texts_ends_the_answer_and_is_no_part_of_it(llama: Path) -> None:
    service = make_service(llama, TASK)

    async def whole() -> None:
        async with generating(service) as model, client_of(make_app(service, find_task(TASK))) as client:
            first = await ask(client, TEXT, text())
            end = model.package.tokens.end
            assert end is not None
            head = model._model.get_output_embeddings()
            with torch.no_grad():
                head.weight[end] = head.weight.abs().sum(0) * 0
            before = model._model.forward

            def forward(*args: Any, **options: Any) -> Any:
                made = before(*args, **options)
                if int(options["position_ids"].max()) >= first["usage"]["prompt_tokens"] + 2:
                    made.logits[..., end] = 1e9
                return made

            model._model.forward = forward
            told = await ask(client, TEXT, text())
            assert told["choices"][0]["finish_reason"] == "stop"
            assert told["usage"]["completion_tokens"] == 4
            assert first["choices"][0]["text"].startswith(told["choices"][0]["text"])

    asyncio.run(whole())


def test_a_seed_gives_the_same_answer_again_and_none_another(llama: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        async def said(**more: Any) -> str:
            told = await ask(client, CHAT, chat(max_tokens=24, temperature=1, top_p=0.95, **more))
            return str(told["choices"][0]["message"]["content"])

        first, *others = await asyncio.gather(said(seed=7), *(said() for _ in range(6)))
        assert first == await said(seed=7)
        assert len({first, *others}) == 7

    with_client(make_service(llama, TASK), test)


def test_what_changes_nothing_may_be_said(llama: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        plain = (await ask(client, CHAT, chat()))["choices"]
        neutral = {
            "n": 1, "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "tools": [], "logprobs": False,
            "tool_choice": "none", "response_format": {"type": "text"}, "user": "somebody", "seed": None, "stop": None,
            "stream_options": None, "stream": None, "store": False, "max_completion_tokens": 8,
            "metadata": {"session": "1"}, "top_logprobs": 0, "safety_identifier": "hash", "prompt_cache_key": "key",
        }  # fmt: skip
        for name, value in neutral.items():
            assert (await ask(client, CHAT, chat(**{name: value})))["choices"] == plain, name
        echoed = {"role": "assistant", "content": "a", "refusal": None, "tool_calls": None, "audio": None}
        for name in ("tool_calls", "annotations"):
            await ask(client, CHAT, chat(messages=[*USER, echoed | {name: []}, *USER]))

    with_client(make_service(llama, TASK), test)


REFUSED: list[tuple[str, Any, str | None, str]] = [
    (CHAT, b"{", None, "the body is no JSON"),
    (CHAT, {"model": "toy"}, "messages", "messages: Field required"),
    (CHAT, chat(messages=[]), "messages", "at least 1"),
    (CHAT, chat(messages="hi"), "messages", "messages: Input should be a valid list"),
    (CHAT, chat(messages=[{"role": "tool", "content": "a"}]), "messages.0.role", "messages.0.role: Input should be"),
    (CHAT, chat(messages=[{"role": "user"}]), "messages.0.content", "messages.0.content: Field required"),
    (CHAT, chat(messages=[{"role": "user", "content": "a", "name": 1}]), "messages.0.name", "name: Input should be"),
    (CHAT, chat(messages=in_parts({"type": "image_url"})), "messages.0.content", "of type 'image_url' isn't supported"),
    (CHAT, chat(messages=in_parts({"type": "text", "text": 1})), "messages", "a text part has type and text"),
    (CHAT, chat(n=2), "n", "n isn't supported"),
    (CHAT, chat(n=True), "n", "n isn't supported"),
    (CHAT, chat(logprobs=True), "logprobs", "logprobs isn't supported"),
    (CHAT, chat(top_logprobs=1), "top_logprobs", "top_logprobs isn't supported"),
    (CHAT, chat(metadata="a"), "metadata", "metadata: Input should be a valid dictionary"),
    (CHAT, chat(messages=[{"role": "assistant", "content": "a", "tool_calls": [{}]}]), "messages.0.tool_calls",
     "tool_calls isn't supported"),
    (CHAT, chat(messages=[{"role": "assistant", "content": None, "tool_calls": [{}]}]), "messages.0.tool_calls",
     "tool_calls isn't supported"),
    (CHAT, chat(messages=[{"role": "tool", "content": "a", "tool_call_id": "b"}]), "messages.0.tool_call_id",
     "tool_call_id isn't supported"),
    (CHAT, chat(messages=[{"role": "assistant", "content": None}]), "messages.0.content.str", "valid string"),
    (CHAT, chat(messages=None), "messages", "messages: Input should be a valid list"),
    (CHAT, chat(tools=[{"type": "function"}]), "tools", "tools isn't supported"),
    (CHAT, chat(response_format={"type": "json_object"}), "response_format", "response_format isn't supported"),
    (CHAT, chat(logit_bias={"5": 1}), "logit_bias", "logit_bias isn't supported"),
    (CHAT, chat(presence_penalty=0.1), "presence_penalty", "presence_penalty isn't supported"),
    (CHAT, chat(prompt="a"), "prompt", "prompt isn't supported"),
    (CHAT, chat(min_p=0.1), "min_p", "min_p isn't supported"),
    (CHAT, chat(max_tokens=0), "max_tokens", "greater than or equal to 1"),
    (CHAT, chat(max_tokens=4, max_completion_tokens=5), "max_tokens", "give one of them"),
    (CHAT, chat(temperature=2.1), "temperature", "less than or equal to 2"),
    (CHAT, chat(temperature=-1), "temperature", "greater than or equal to 0"),
    (CHAT, chat(temperature="hot"), "temperature", "valid number"),
    (CHAT, chat(top_p=0), "top_p", "greater than 0"),
    (CHAT, chat(top_p=1.1), "top_p", "less than or equal to 1"),
    (CHAT, chat(seed=1.5), "seed", "seed: "),
    (CHAT, chat(stop=""), "stop", "1 to 256 characters"),
    (CHAT, chat(stop=["a"] * 5), "stop", "at most 4"),
    (CHAT, chat(stop=[1]), "stop", "stop is a string"),
    (CHAT, chat(stream="yes"), "stream", "valid boolean"),
    (CHAT, chat(stream_options={"include_usage": True}), "stream_options", "only with stream"),
    (CHAT, chat(stream=True, stream_options={"x": 1}), "stream_options.x", "stream_options.x isn't supported"),
    (CHAT, chat(stream=True, stream_options={"include_obfuscation": True}), "stream_options.include_obfuscation",
     "include_obfuscation isn't supported"),
    (TEXT, text(prompt=""), "prompt", "the prompt has no tokens"),
    (TEXT, text(prompt=[]), "prompt", "the prompt has no tokens"),
    (TEXT, text(prompt=["a", "b"]), "prompt", "prompt with several texts isn't supported"),
    (TEXT, text(prompt=[320]), "prompt", "from 0 to 319"),
    (TEXT, text(prompt={"a": 1}), "prompt", "prompt must be all strings"),
    (TEXT, text(logprobs=1), "logprobs", "logprobs isn't supported"),
    (TEXT, text(echo=True), "echo", "echo isn't supported"),
    (TEXT, text(best_of=3), "best_of", "best_of isn't supported"),
    (TEXT, text(suffix="x"), "suffix", "suffix isn't supported"),
    (TEXT, text(messages=USER), "messages", "messages isn't supported"),
    (TEXT, text(max_completion_tokens=3), "max_completion_tokens", "max_completion_tokens isn't supported"),
]  # fmt: skip


def test_what_is_wrong_or_not_supported_is_refused_by_name_in_openais_form(llama: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        for path, body, param, said in REFUSED:
            response = await client.post(
                path, content=body if isinstance(body, bytes) else orjson.dumps(body)
            )
            assert response.status_code == 400, body
            error = response.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert (error["type"], error["param"]) == ("invalid_request_error", param), error
            assert said in error["message"]
        assert (await client.post(CHAT, json=chat(model="gpt-4"))).status_code == 404

    with_client(make_service(llama, TASK), test)


def test_what_is_too_long_is_told_with_the_limit(llama: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        for body in (text(prompt=[5] * 128), text(prompt=[5] * 500), text(prompt=[5] * 100, max_tokens=29)):
            response = await client.post(TEXT, json=body)
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
            assert "and this model takes 128 in all" in error["message"]
        full = await ask(client, TEXT, text(prompt=[5] * 100, max_tokens=28))
        assert full["usage"]["total_tokens"] == 128
        told = await ask(client, TEXT, {"model": "toy", "prompt": "a", "temperature": 0})
        assert told["usage"]["completion_tokens"] == 16  # as OpenAI has it

    with_client(make_service(llama, TASK), test)


def test_a_conversation_goes_on_as_long_as_there_is_room(llama: Path) -> None:
    async def whole() -> None:
        async with generating(make_service(llama, TASK)) as model:
            assert model.count_room(model.package.tokens.take([5] * 100), None) == 28

    asyncio.run(whole())


def test_the_chat_template_reads_who_speaks(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_generator(folder)
    template = "{% for m in messages %}{{ m['name'] | default(m['role']) }}: {{ m['content'] }} {% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    service = make_service(folder, TASK)

    async def whole() -> None:
        async with generating(service) as model, client_of(make_app(service, find_task(TASK))) as client:
            for name, speaker in (("good fox", "good fox"), (None, "user")):
                told = await ask(client, CHAT, chat(messages=[USER[0] | {"name": name}]))
                said = continue_by_hand(model, f"{speaker}: the quick brown ", 8)
                assert told["choices"][0]["message"]["content"] == said

    asyncio.run(whole())


def test_a_model_without_a_chat_template_says_so_and_one_that_refuses_too(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_generator(folder)
    template = folder / "chat_template.jinja"
    template.write_text("{{ raise_exception('roles must alternate') }}")

    async def refuses(client: httpx2.AsyncClient) -> None:
        response = await client.post(CHAT, json=chat())
        assert response.status_code == 400
        assert "refuses these messages: roles must alternate" in response.json()["error"]["message"]

    with_client(make_service(folder, TASK), refuses)
    template.unlink()

    async def has_none(client: httpx2.AsyncClient) -> None:
        response = await client.post(CHAT, json=chat())
        assert response.status_code == 400
        assert "has no chat template: ask /v1/completions" in response.json()["error"]["message"]
        await ask(client, TEXT, text())

    with_client(make_service(folder, TASK), has_none)


def test_a_template_that_begins_with_the_token_that_the_tokenizer_begins_with_too_has_it_once(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "model"
    write_generator(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    first = tokenizer.convert_ids_to_tokens(5)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, 5)]
    )
    tokenizer.chat_template = first + "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(folder)

    async def test(client: httpx2.AsyncClient) -> None:
        size = (await ask(client, TEXT, text()))["usage"]["prompt_tokens"]
        assert (await ask(client, CHAT, chat()))["usage"]["prompt_tokens"] == size

    with_client(make_service(folder, TASK), test)


def test_who_comes_to_a_full_queue_is_told_to_come_again(llama: Path) -> None:
    service = make_service(llama, TASK, max_queue=2)

    async def whole() -> None:
        async with generating(service), client_of(make_app(service, find_task(TASK))) as client:
            bodies = [text(max_tokens=100, seed=i, temperature=1) for i in range(12)]
            found = await asyncio.gather(*(client.post(TEXT, json=body) for body in bodies))
            codes = sorted(response.status_code for response in found)
            assert set(codes) == {200, 503}
            for response in found:
                if response.status_code == 503:
                    assert response.headers["retry-after"] == "1"
                    assert response.json()["error"]["type"] == "server_error"
            await ask(client, TEXT, text())  # and then there is room again

    asyncio.run(whole())


def test_a_model_that_breaks_in_a_stream_ends_it_with_an_error(
    llama: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = make_service(llama, TASK)

    async def whole() -> None:
        async with generating(service) as model, client_of(make_app(service, find_task(TASK))) as client:
            before = model._model.forward

            def forward(*args: Any, **options: Any) -> Any:
                made = before(*args, **options)
                if int(options["position_ids"].max()) > 12:
                    made.logits[:] = torch.nan
                return made

            model._model.forward = forward
            response = await client.post(TEXT, json=text(max_tokens=50, stream=True))
            *_, last, empty = response.text.split("\n\n")
            assert empty == ""
            assert "server_error" in last
            assert [record.getMessage() for record in caplog.records if record.exc_info] == [
                "a request failed"
            ]
            whole = await client.post(TEXT, json=text(max_tokens=50))
            assert (whole.status_code, whole.headers["x-should-retry"]) == (500, "false")
            found = read(service.metrics)
            assert found["modelyard_server_answers_total{code=500}{protocol=openai}"] == 2
            assert found["vllm:request_success_total{finished_reason=abort}"] == 2

    asyncio.run(whole())


def test_tokens_times_and_reasons_are_counted_by_vllms_names(llama: Path) -> None:
    service = make_service(llama, TASK)

    async def whole() -> None:
        async with generating(service), client_of(make_app(service, find_task(TASK))) as client:
            told = await ask(client, CHAT, chat())
            read_events(await client.post(CHAT, json=chat(stream=True)))
            found = read(service.metrics)
            assert found["vllm:request_success_total{finished_reason=length}"] == 2
            assert found["vllm:prompt_tokens_total"] == 2 * told["usage"]["prompt_tokens"]
            assert found["vllm:generation_tokens_total"] == 16
            assert found["vllm:time_to_first_token_seconds_count"] == 2
            assert found["vllm:inter_token_latency_seconds_count"] == 14
            assert found["vllm:request_time_per_output_token_seconds_count"] == 2
            assert found["vllm:e2e_request_latency_seconds_count"] == 2
            assert found["vllm:num_requests_running"] == found["vllm:num_requests_waiting"] == 0
            assert 0 <= found["vllm:kv_cache_usage_perc"] < 1

    asyncio.run(whole())


def test_the_servers_own_pages_know_the_task(llama: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        [model] = (await client.get("/v1/models")).json()["data"]
        assert (model["id"], model["max_model_len"]) == ("toy", 128)
        assert (await client.get("/v2/models/toy")).json()["inputs"] == []
        assert (await client.get("/v2/health/ready")).status_code == 200
        assert (await client.post("/v1/embeddings", json={})).status_code == 404

    with_client(make_service(llama, TASK), test)


def test_a_conversation_of_very_many_turns_is_read_aside_however_little_is_said(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def whole() -> None:
        async with generating(make_service(llama, TASK)) as model:
            threads: list[int] = []

            def encode_chat(messages: Any, most: int) -> Any:
                threads.append(threading.get_ident())
                return model.package.tokens.take([5])

            monkeypatch.setattr(model.package.tokens, "encode_chat", encode_chat)
            for turns, name in ((3, "a"), (2000, "a"), (1, "a" * 20_000)):
                await model.encode_chat([{"role": "user", "content": "", "name": name}] * turns)
            assert threads[0] == threading.get_ident() not in threads[1:]

    asyncio.run(whole())
