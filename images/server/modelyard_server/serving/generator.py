"""A causal language model: prompts in, pieces of text out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from modelyard.contract.model import Reference
from modelyard_models.failure import describe, lacks_device_memory, lacks_memory

from modelyard_server.batching.batcher import Closed, Full
from modelyard_server.batching.progress import Progress
from modelyard_server.failure import Failure
from modelyard_server.generation.request import GREEDY, Broken, Ended, Sampling
from modelyard_server.generation.text import Detokenizer, StopFinder
from modelyard_server.package.folder import Package
from modelyard_server.package.reference import check_difference, check_tokens, read_reference
from modelyard_server.package.tokens import INLINE_CHARACTERS, Row
from modelyard_server.serving.generation_metrics import GenerationMetrics
from modelyard_server.serving.metrics import Metrics
from modelyard_server.serving.served import NotFinite, Served, TooLong

if TYPE_CHECKING:
    from modelyard_server.generation.engine import Engine

_PROBE = "Is anybody there?"
_CONTEXT = 8  # tokens of a prompt that decide how the next is read: whether it begins with a space
_TURN = 32  # characters that a chat template puts around a message, about
_PROVED = 4  # tokens that are made before the server is ready
# Share of the largest logit that a batch and a cache may change by rounding on the same machine.
_ROUNDING = {"float32": 0.001, "float16": 0.01, "bfloat16": 0.05}

Reason = Literal["stop", "length"]


@dataclass(slots=True)
class Answer:
    """What is told of an answer at its end: tokens of prompt and answer, and why it ended (None: it has not)."""

    prompt: int
    made: int = 0
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """`most`: tokens of the answer, at most; None: as many as there is room for.

    `continues`: the answer goes on with the prompt's text, as within a sentence; else it is a text of its own.
    """

    most: int | None = None
    sampling: Sampling = field(default=GREEDY)
    stops: Sequence[str] = ()
    continues: bool = False


class Generator(Served):
    """Tokenizer and engine of one model. `model` is transformers', for the proof alone."""

    def __init__(
        self,
        package: Package,
        model: Any,
        engine: Engine,
        executor: Executor,
        metrics: Metrics,
        ends: set[int],
    ) -> None:
        self.package, self.limit = package, package.limit
        self._model, self._engine, self._executor = model, engine, executor
        self._ends = ends
        self._metrics = GenerationMetrics(metrics, lambda: engine.cache_use)

    @property
    def waiting(self) -> int:
        return self._engine.waiting

    @property
    def running(self) -> int:
        return self._engine.running

    @property
    def works(self) -> bool:
        return self._engine.alive

    @property
    def progress(self) -> Progress:
        return self._engine.progress

    def start(self) -> None:
        self._engine.start()

    def abandon(self) -> None:
        self._engine.abandon()

    async def close(self) -> None:
        await self._engine.close()

    def explain_end(self) -> Failure:
        crash = self._engine.crash
        if crash is not None and lacks_memory(crash):
            return Failure(
                "HostOutOfMemory",
                "generation found no memory; raise server.resources.limits.memory, or lower server.maxLength or"
                " server.maxBatchTokens",
            )
        if crash is None:
            return super().explain_end()
        return Failure("ModelCrashed", f"generation has failed: {describe(crash)}", temporary=True)

    async def encode(self, text: str) -> Row:
        """A prompt's tokens, with those that the model wants before it."""
        return await self._aside(len(text), lambda: self.package.tokens.encode_prompt(text, self.limit))

    async def encode_chat(self, messages: Sequence[dict[str, str]]) -> Row:
        """The tokens of a conversation up to where the model answers. Raises Untemplated."""
        size = sum(sum(map(len, message.values())) + _TURN for message in messages)
        return await self._aside(size, lambda: self.package.tokens.encode_chat(messages, self.limit))

    def count_room(self, row: Row, most: int | None) -> int:
        """How many tokens an answer may have. Raises TooLong."""
        room = self.limit - len(row)
        if room < 1 or (most is not None and most > room):
            wanted = f" and {most} are asked for" if most is not None else ""
            raise TooLong(
                f"the prompt has {row.describe()}{wanted}, and this model takes {self.limit} in all, with at least 1"
                " of the answer: shorten the prompt, or ask for fewer"
            )
        return room if most is None else most

    async def generate(self, row: Row, wish: Wish, answer: Answer) -> AsyncGenerator[str, None]:
        """The answer's text in pieces; `answer` tells of it at the end. Closing it frees its place.

        Raises TooLong, Full, Closed, NotFinite.
        """
        most = self.count_room(row, wish.most)
        if self.waiting >= self.package.config.max_queue:
            raise Full
        before = row.ids[-_CONTEXT:].tolist() if wish.continues else []
        text, stop = Detokenizer(self.package.tokens.decode, before), StopFinder(wish.stops)
        watch = self._metrics.begin(answer)
        try:
            async with aclosing(self._engine.generate(row.ids.tolist(), most, wish.sampling)) as tokens:
                async for token in tokens:
                    answer.made += 1
                    watch.see_token()
                    if token in self._ends:
                        answer.reason = "stop"
                        break
                    piece = stop.push(text.push(token))
                    if stop.found:
                        answer.reason = "stop"
                    if piece:
                        yield piece
                    if stop.found:
                        break
                else:
                    answer.reason = "length"
            if not stop.found and (piece := stop.flush()):
                yield piece
        except Ended:
            raise Closed from None
        except Broken:
            raise NotFinite("the model's answer holds values that are no numbers") from None
        finally:
            watch.end()

    async def prove(self) -> None:
        reference = read_reference(self.package, Reference, "text-generation")
        start, loop = self.package.tokens.encode_prompt(_PROBE), asyncio.get_running_loop()
        if reference is not None and reference.rows:
            check_tokens(self.package, reference)
            worst = await loop.run_in_executor(self._executor, self._compare, reference)
            check_difference(self.package, reference, worst)
            start = self.package.tokens.take(reference.rows[0].input_ids)
        ids = start.ids[: self.limit - 1].tolist()
        made = await self._try(ids)
        await loop.run_in_executor(self._executor, self._check_made, ids, made)

    def _compare(self, reference: Reference) -> float:
        """The largest difference of a logarithm, each row by itself and without a cache."""
        worst = 0.0
        for row in reference.rows:
            if max(row.candidates) >= self.package.tokens.vocabulary:
                raise Failure(
                    "ModelUnproven", "its reference.json is of a model with more tokens; export it anew"
                )
            found = self._ask(row.input_ids, 1)[0].log_softmax(-1)[row.candidates].numpy()
            worst = max(worst, float(np.abs(found - np.asarray(row.log_probs)).max()))
        return worst

    async def _try(self, ids: list[int]) -> list[int]:
        """Some tokens, made as those of requests are."""
        most = min(_PROVED, self.limit - len(ids))
        try:
            async with aclosing(self._engine.generate(ids, most, GREEDY)) as tokens:
                return [token async for token in tokens]
        except Ended:
            await self._engine.close()  # why it ended is known when it has
            crash = self._engine.crash
            if crash is None or lacks_memory(crash) or lacks_device_memory(crash):
                raise self.explain_end() from crash
            raise Failure(
                "ModelUnproven",
                f"batched, the model does not answer: {describe(crash)}; serve it with engine vllm",
            ) from crash
        except Broken:
            raise Failure(
                "ModelUnproven", "the model's answer holds values that are no numbers; serve another"
            ) from None

    def _check_made(self, ids: list[int], made: list[int]) -> None:
        """Each token that requests get must be the model's likeliest without batches and cache, but for rounding.

        Raises Failure (ModelUnproven).
        """
        dtype = str(self._model.dtype).removeprefix("torch.")
        for place, logits in enumerate(self._ask(ids + made[:-1], len(made))):
            allowed = 2 * float(logits.abs().max()) * _ROUNDING.get(dtype, max(_ROUNDING.values()))
            if not float(logits.max() - logits[made[place]]) <= allowed:
                raise Failure(
                    "ModelUnproven",
                    f"{self.package.config.folder}: batched, it continues a text with token {made[place]} at place"
                    f" {place + 1}, which is none of the likeliest, as {int(logits.argmax())} is; serve it with engine"
                    " vllm",
                )

    def _ask(self, ids: list[int], last: int) -> Any:
        """Logits (last, vocabulary) in float32 of a text's last tokens, by itself and without a cache."""
        import torch

        with torch.inference_mode():
            return self._model(torch.tensor([ids], device=self._model.device)).logits[0, -last:].float().cpu()

    async def _aside(self, size: int, encode: Callable[[], Row]) -> Row:
        return encode() if size <= INLINE_CHARACTERS else await asyncio.to_thread(encode)
