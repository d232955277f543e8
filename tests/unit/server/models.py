"""Tiny models with random weights, and servers of them without a process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import torch
from modelyard.contract.server import ServerConfig
from modelyard_server.app import make_app
from modelyard_server.serving.generator import Generator
from modelyard_server.serving.predictor import Predictor
from modelyard_server.serving.served import Served
from modelyard_server.serving.service import Service
from modelyard_server.settings import Settings
from modelyard_server.tasks import find_task
from starlette.types import ASGIApp

from tests.unit.trainer.builders import BERT, LLAMA
from tests.unit.trainer.exported import make_tokenizer

LABELS = ["bad", "so-so", "good"]
TEXTS = [
    "the quick brown fox", "a lazy dog", "good", "", "many bad words are said about it while the dog jumps",
    "ünïcode 深い \U0001f600 " * 2, "over the lazy dog " * 4,
]  # fmt: skip


def write_encoder(folder: Path, kind: str = "AutoModel", *, frames: bool = True, **config: Any) -> Any:
    """Writes a random model with its tokenizer, and returns it."""
    import transformers

    make_tokenizer(folder, BERT | config, "text-classification" if frames else "text-generation")
    named = {"num_labels": 3, "id2label": dict(enumerate(LABELS))}
    about = transformers.AutoConfig.from_pretrained(
        folder, **(named if "Classification" in kind and "num_labels" not in config else {})
    )
    torch.manual_seed(5)
    model = getattr(transformers, kind).from_config(about)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # so that texts differ by more than rounding
    model.save_pretrained(folder)
    return model.eval()


def write_classifier(folder: Path, **config: Any) -> Any:
    """Writes a random classifier of three classes, and returns it."""
    return write_encoder(folder, "AutoModelForSequenceClassification", **config)


CHAT = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
GPT2 = {"model_type": "gpt2", "vocab_size": 320, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}


def write_generator(folder: Path, config: dict[str, Any] = LLAMA, **more: Any) -> Any:
    """Writes a random causal model with its tokenizer and a chat template, and returns it."""
    import transformers

    about = config | {"max_position_embeddings": 128} | more
    tokenizer = make_tokenizer(folder, about, "text-generation")
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    torch.manual_seed(5)
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # so that tokens differ by more than rounding
    model.save_pretrained(folder)
    return model.eval()


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def make_settings(folder: Path, task: str, **config: Any) -> Settings:
    """Settings of a server of the model in `folder`, on one thread."""
    told = ServerConfig.model_validate(
        {"name": "toy", "revision": "r1", "task": task, "folder": folder.name, **config}
    )
    runtime = folder.parent / "result.json"
    reference = folder.parent / told.reference if told.reference else None
    return Settings(told, folder, 0, 1, runtime, folder.parent / "termination", reference)


def make_service(folder: Path, task: str, **config: Any) -> Service:
    return Service(make_settings(folder, task, **config))


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[Predictor]:
    """As serving_any, of a predictive task."""
    async with serving_any(service) as model:
        assert isinstance(model, Predictor)
        yield model


@asynccontextmanager
async def generating(service: Service) -> AsyncIterator[Generator]:
    """As serving_any, of text-generation."""
    async with serving_any(service) as model:
        assert isinstance(model, Generator)
        yield model


@asynccontextmanager
async def serving_any(service: Service) -> AsyncIterator[Served]:
    """The loaded, proved model of a service that is ready, for the time of the block. Raises Failure."""
    loop = asyncio.get_running_loop()
    model: Served = await loop.run_in_executor(service.executor, find_task(service.config.task).load, service)
    model.start()
    try:
        await model.prove()
        service.model, service.state = model, "ready"
        yield model
    finally:
        await model.close()
        service.executor.shutdown()


def client_of(app: ASGIApp) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://server")


def with_client(service: Service, test: Callable[[httpx2.AsyncClient], Awaitable[None]]) -> None:
    """Runs a test against the service's application, once it is ready."""

    async def whole() -> None:
        async with (
            serving_any(service),
            client_of(make_app(service, find_task(service.config.task))) as client,
        ):
            await test(client)

    asyncio.run(whole())


def with_model(folder: Path, task: str, test: Callable[[Predictor], Awaitable[None]], **config: Any) -> None:
    """Runs a test with the loaded model."""

    async def whole() -> None:
        async with serving(make_service(folder, task, **config)) as model:
            await test(model)

    asyncio.run(whole())


async def answer(predictor: Predictor, *texts: str) -> list[Any]:
    return await predictor.answer(await predictor.encode(texts, truncate=True))
