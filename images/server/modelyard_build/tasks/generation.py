"""text-generation: how a causal language model's next tokens compare, and how fast it writes."""

from __future__ import annotations

from typing import Any

from modelyard_models.failure import Failure
from modelyard_models.measures import measure_tokens
from modelyard_server.app import make_app
from modelyard_server.runtimes.runtime import Output
from modelyard_server.serving.generator import Generator
from modelyard_server.serving.served import Served
from modelyard_server.serving.service import Service
from modelyard_server.tasks import find_task
from starlette.types import ASGIApp

from modelyard_build.rows import Rows
from modelyard_build.tasks.asgi import post
from modelyard_build.tasks.task import Answers, Asker, BuildTask

PROMPT = 64  # tokens of a request, at most
ANSWER = 16  # tokens that it asks for, if there is room for so many


class PromptAsker(Asker[Served]):
    """A request is the beginning of a row, an answer ANSWER tokens: by OpenAI's API, without a network."""

    def __init__(self, model: Served, app: ASGIApp, name: str, prompts: list[list[int]]) -> None:
        super().__init__(model, len(prompts))
        self._app, self._name, self._prompts = app, name, prompts

    async def ask(self, number: int) -> Any:
        """The answer's JSON."""
        prompt = self._prompts[number]
        body = {"prompt": prompt, "max_tokens": min(ANSWER, self.model.limit - len(prompt)), "temperature": 0}
        return await post(self._app, "/v1/completions", {"model": self._name, **body})


class TextGeneration(BuildTask):
    """Agreement is the share of the rows' tokens that both variants hold for the likeliest at their place."""

    name = "text-generation"
    output = Output("AutoModelForCausalLM", "logits", rank=3)
    apart = True

    def fits(self, architecture: str) -> bool:
        """By transformers' way of naming, to which its own list has exceptions."""
        if architecture.endswith("ForCausalLM") or "LMHead" in architecture:
            return True
        # Takes seconds to import.
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

        return architecture in NAMES.values()

    async def make_asker(self, service: Service, model: Served, rows: Rows) -> PromptAsker:
        """Leaves room for the answer."""
        assert isinstance(model, Generator)  # noqa: S101 - as the server's task makes it
        tokens = model.package.tokens
        longest = max(1, min(PROMPT, model.limit - ANSWER))
        texts = [tokens.encode(text).ids.tolist() for text in rows.texts or []]
        prompts = [ids[:longest] for ids in rows.ids or texts if len(ids)]
        if not prompts:
            raise Failure("InvalidBuildConfig", "no text has a token: give other ones")
        service.model, service.state = model, "ready"
        return PromptAsker(model, make_app(service, find_task(self.name)), service.config.name, prompts)

    def compare(self, answers: Answers, base: Answers, rows: Rows) -> tuple[dict[str, float], float]:
        """Loss and perplexity as training measures them."""
        agreement = float((answers["next"] == base["next"]).mean())
        return measure_tokens(float(answers["losses"].sum()), float(len(answers["next"]))), agreement
