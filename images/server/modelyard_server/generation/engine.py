"""transformers' continuous batching as requests meet it: tokens come, or the reason why none come."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import ContinuousBatchingConfig, GenerationConfig, LogitsProcessorList
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.continuous_batching.continuous_api import OutputRouter
from transformers.generation.continuous_batching.requests import RequestStatus
from transformers.generation.continuous_batching.scheduler import SCHEDULER_MAPPING, FIFOScheduler

from modelyard_server.batching.progress import Progress
from modelyard_server.generation import attention
from modelyard_server.generation.memory import PAGE
from modelyard_server.generation.request import Broken, Ended, Sampling
from modelyard_server.generation.sampling import Sampler

_STOP_SECONDS = 30.0  # a step of the largest models


@dataclass(frozen=True, slots=True)
class Plan:
    """`blocks` of the cache, tokens of one step, and requests of one step."""

    blocks: int
    batch_tokens: int
    at_once: int


@dataclass(slots=True)
class _Open:
    """A request whose tokens are awaited: how many were passed on, and where they go. None ends them."""

    passed: int
    tokens: asyncio.Queue[int | Exception | None]


class _Scheduler(FIFOScheduler):  # type: ignore[misc]
    """Notes the steps: each lasts from where it is scheduled until transformers comes to look for the next.

    Where the cache is full, transformers takes no new requests until one has ended; one that left counts here too. Else
    all wait without end once those that filled the cache have left (transformers 5.23).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.progress = Progress()

    def schedule_batch(self, token_budget: int, cache_budget: int) -> Any:
        requests, fast, tokens, read = super().schedule_batch(token_budget, cache_budget)
        if requests:
            self.progress.begin(tokens)
        return requests, fast, tokens, read

    def clear_cancelled_requests(self) -> list[Any]:
        self.progress.end()
        cancelled: list[Any] = super().clear_cancelled_requests()
        if cancelled:
            self.block_new_requests = False
        return cancelled


class _Router(OutputRouter):  # type: ignore[misc]
    """Hands all outputs of a step to the event loop at once."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._engine, self._loop = engine, loop

    def deliver(self, output: Any) -> None:
        self.deliver_batch([output])

    def deliver_batch(self, outputs: list[Any]) -> None:
        self._loop.call_soon_threadsafe(self._engine.take, outputs)


class Engine:
    """One model and its cache. It computes on a thread of its own; everything here is for the event loop.

    Raises what transformers raises for a model that it has no such cache for, and ValueError for one that has another.
    """

    def __init__(self, model: Any, plan: Plan, ends: Sequence[int]) -> None:
        if not attention.reads_pages(model):  # transformers would compute each token without those before it
            raise ValueError(f"{type(model).__name__} computes its attention by itself")
        if getattr(model.config.get_text_config(), "kv_lora_rank", None):  # the cache has one size for both
            raise ValueError(f"{type(model).__name__} compresses its keys and values")
        attention.install()
        SCHEDULER_MAPPING["modelyard"] = _Scheduler
        self._sampler, self._numbers = Sampler(), itertools.count()
        self._open: dict[str, _Open] = {}
        self._manager: Any = ContinuousBatchingManager(
            model,
            GenerationConfig(do_sample=False, eos_token_id=list(ends) or -1, max_new_tokens=1),
            ContinuousBatchingConfig(
                page_size=PAGE,
                num_blocks=plan.blocks,
                scheduler_type="modelyard",
                max_batch_tokens=plan.batch_tokens,
                max_requests_per_batch=plan.at_once,
                max_memory_percent=1.0,  # planned already
                use_cuda_graph=False,  # the sampler is Python
                use_async_batching=False,  # it must know a request's last token
                seed=0,  # draws have their own
                auto_switch_to_flash=False,  # nothing is fetched
            ),
        )
        processors = ContinuousBatchingLogitsProcessorList(LogitsProcessorList([self._sampler]))
        processors.tensors_required = 1
        self._manager.logit_processor = processors
        self._manager.warmup()  # makes the cache
        self._processor = self._manager.batch_processor

    def start(self) -> None:
        """Begins to work."""
        router = _Router(self, asyncio.get_running_loop())
        self._manager.output_router = self._processor.output_router = router
        self._manager.start()

    @property
    def alive(self) -> bool:
        """Whether it works."""
        return bool(self._manager.is_running()) and self.crash is None

    @property
    def progress(self) -> Progress:
        """Of its steps."""
        found: Progress = self._processor.scheduler.progress
        return found

    @property
    def crash(self) -> Exception | None:
        """Why it works no more, if that was not asked for."""
        found: Exception | None = self._manager.background_thread_status.fatal_error
        return found

    @property
    def waiting(self) -> int:
        """Requests that no step has taken."""
        return int(self._manager.input_queue.qsize()) + len(self._processor.scheduler.waiting_requests)

    @property
    def running(self) -> int:
        """Requests that steps compute."""
        return max(0, len(self._open) - self.waiting)

    @property
    def cache_use(self) -> float:
        """Share of the cache that requests hold, or that is kept for prompts like theirs."""
        return 1.0 - float(self._processor.cache.compute_free_capacity())

    async def generate(self, ids: Sequence[int], most: int, sampling: Sampling) -> AsyncGenerator[int, None]:
        """The tokens that follow, at most so many; one that ends a text is the last. Closing it frees its place.

        Raises Ended, Broken.
        """
        name = str(next(self._numbers))
        opened = self._open[name] = _Open(0, asyncio.Queue())
        try:
            if not self.alive:
                raise Ended
            given = {"max_new_tokens": most, "streaming": True, "sampling": sampling}
            if self._manager.add_request(list(ids), name, **given) is None:
                raise Ended
            while (token := await opened.tokens.get()) is not None:
                if isinstance(token, Exception):
                    raise token
                yield token
        finally:
            if self._open.pop(name, None) is not None:
                self._manager.cancel_request(name)
            self._sampler.broken.discard(name)

    def take(self, outputs: Sequence[Any]) -> None:
        """What a step has made. Those that nobody awaits any more are let go."""
        for output in outputs:
            opened = self._open.get(output.request_id)
            if opened is None:
                self._sampler.broken.discard(output.request_id)  # of a step that had begun when it left
                continue
            if output.request_id in self._sampler.broken:
                opened.tokens.put_nowait(Broken())
                continue
            for token in output.generated_tokens[opened.passed :]:
                opened.tokens.put_nowait(token)
            opened.passed = len(output.generated_tokens)
            if output.status == RequestStatus.FAILED:
                opened.tokens.put_nowait(Ended())
            elif output.status == RequestStatus.FINISHED:
                del self._open[output.request_id]
                opened.tokens.put_nowait(None)

    def abandon(self) -> None:
        """Gives up what is open: those who asked get Ended. The thread may never come back."""
        for opened in self._open.values():
            opened.tokens.put_nowait(Ended())

    async def close(self) -> None:
        """Ends it; requests that are open get Ended."""
        if self._manager.is_running():
            await asyncio.to_thread(self._manager.stop, timeout=_STOP_SECONDS, hard_stop=True)
