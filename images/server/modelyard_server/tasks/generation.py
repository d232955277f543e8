"""text-generation: a causal language model continues a text, or answers in a conversation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from modelyard_models.failure import boundary
from starlette.routing import Route

from modelyard_server.failure import Failure
from modelyard_server.package.folder import Package, open_package
from modelyard_server.protocols import openai
from modelyard_server.protocols.completions import Chat, Completions
from modelyard_server.runtimes import Output
from modelyard_server.runtimes.pytorch import load_model
from modelyard_server.serving.generator import Generator
from modelyard_server.serving.service import Service
from modelyard_server.tasks.task import TOKENS_PER_THREAD, Task, post

# Requests that one step computes. More of them make each slower, and all wait longer for their ends.
AT_ONCE = 64


class TextGeneration(Task):
    """Models that transformers loads as AutoModelForCausalLM, by OpenAI's API."""

    name = "text-generation"

    def load(self, service: Service) -> Generator:
        # Takes a second and more to import, which other tasks' servers needn't spend.
        from modelyard_server.generation.engine import Engine, Plan
        from modelyard_server.generation.memory import Sizes, plan_blocks, read_room

        settings, config = service.settings, service.config
        if config.runtime != "torch" or config.variant == "int8":
            raise Failure(
                "ModelInvalid",
                f"{self.name} is served by runtime torch as none, fp32 or bf16, not by {config.runtime} as"
                f" {config.variant}; choose one of them",
            )
        package = bound_length(open_package(settings.folder, config, settings.reference))
        model = load_model(
            package, Output("AutoModelForCausalLM", "logits", rank=3, pages=True), settings.threads
        )
        at_once = min(AT_ONCE, config.max_queue)
        batch_tokens = max(config.max_batch_tokens or TOKENS_PER_THREAD * settings.threads, at_once)
        ends = find_ends(package, model)
        with boundary("ModelInvalid", "it can't be batched continuously", "serve it with engine vllm"):
            about = package.about.get_text_config()
            sizes = Sizes.of(about, model.dtype.itemsize, batch_tokens, at_once)
            blocks = plan_blocks(sizes, read_room(model.device), package.limit, at_once)
            engine = Engine(model, Plan(blocks, batch_tokens, at_once), sorted(ends))
        return Generator(package, model, engine, service.executor, service.metrics, ends)

    def list_routes(self, service: Service) -> list[Route]:
        handlers = {"/v1/chat/completions": Chat(service), "/v1/completions": Completions(service)}
        return [post(service, path, handler, "openai", openai.render) for path, handler in handlers.items()]


def bound_length(package: Package) -> Package:
    """With no more tokens than the model was made for; rotary positions go further, and make no sense there."""
    longest = getattr(package.about.get_text_config(), "max_position_embeddings", None) or package.limit
    limit = min(package.limit, longest)
    if limit < 2:
        raise Failure("ModelInvalid", f"maxLength {limit} has no room for a text and an answer; raise it")
    return dataclasses.replace(package, limit=limit)


def find_ends(package: Package, model: Any) -> set[int]:
    """The tokens that end a text: those that the model's folder names for generation, and the tokenizer's."""
    named = model.generation_config.eos_token_id
    if named is None:
        named = package.about.get_text_config().eos_token_id
    listed: Sequence[Any] = named if isinstance(named, list) else [named]
    return {end for end in (*listed, package.tokens.end) if end is not None}
