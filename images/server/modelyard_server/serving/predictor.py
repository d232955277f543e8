"""A model that answers each text with one vector, in batches: logits of classes, or an embedding."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
from modelyard_models.failure import boundary
from modelyard_models.padding import sees_padding

from modelyard_server.batching.batcher import Batcher, Limits
from modelyard_server.batching.progress import Progress
from modelyard_server.package.folder import Package
from modelyard_server.package.tokens import INLINE_CHARACTERS, Row
from modelyard_server.runtimes.runtime import Floats, Runtime
from modelyard_server.serving.head import Head
from modelyard_server.serving.metrics import Metrics
from modelyard_server.serving.served import NotFinite, Served, TooLong

# Of one batch, for each thread: larger ones take no less time a row, and who comes meanwhile waits longer.
TOKENS_PER_THREAD = 256
INPUT = "text"
_PROBE = "Is anybody there?"


class Predictor(Served):
    """Tokenizer, batcher, runtime and head of one model."""

    def __init__(
        self,
        package: Package,
        runtime: Runtime,
        head: Head,
        threads: int,
        executor: Executor,
        metrics: Metrics,
    ) -> None:
        self.package, self.head, self.limit = package, head, package.limit
        self._runtime = runtime
        limits = make_limits(package, threads, shares=head.shares)
        self._batcher: Batcher[Row, Floats] = Batcher(self._compute, len, limits, executor, metrics)

    @property
    def waiting(self) -> int:
        return self._batcher.waiting

    @property
    def running(self) -> int:
        return self._batcher.running

    @property
    def works(self) -> bool:
        return self._batcher.alive

    @property
    def progress(self) -> Progress:
        return self._batcher.progress

    def start(self) -> None:
        self._batcher.start()

    async def prove(self) -> None:
        await self.head.prove(self)

    async def probe(self) -> Floats:
        """The vector of some text. Raises Failure (ModelUnproven)."""
        rows = await self.encode([_PROBE], truncate=True)
        return (await self.answer_proof(rows))[0]

    async def answer_proof(self, rows: Sequence[Row]) -> list[Floats]:
        """As answer, while the model is proved. Raises Failure (ModelUnproven)."""
        with boundary("ModelUnproven", "the model does not answer", "its log says why; serve another"):
            if self.package.config.variant == "int8":
                # Quantised anew in each batch: what a row is answered depends on those beside it, unless it is alone.
                return [found for row in rows for found in await self.answer([row])]
            return await self.answer(rows)

    def describe(self) -> dict[str, Any]:
        outputs = [info.describe() for info in self.head.list_outputs()]
        return {"inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}], "outputs": outputs}

    def abandon(self) -> None:
        self._batcher.abandon()

    async def close(self) -> None:
        await self._batcher.close()

    async def encode(self, texts: Sequence[str], *, truncate: bool) -> list[Row]:
        """The texts' tokens, each at most `limit`, or cut there. Raises TooLong."""
        if sum(map(len, texts)) <= INLINE_CHARACTERS:
            return self._encode(texts, truncate)
        return await asyncio.to_thread(self._encode, texts, truncate)

    def take(self, ids: Sequence[int], *, truncate: bool) -> Row:
        """Tokens that a caller has made. Raises TooLong."""
        if len(ids) > self.limit and not truncate:
            raise self._too_long(f"{len(ids)} tokens")
        return self.package.tokens.take(ids[: self.limit])

    async def answer(self, rows: Sequence[Row]) -> list[Floats]:
        """One vector for each row, in their order. Raises Full, Closed, NotFinite."""
        return await self._batcher.answer(rows)

    def _encode(self, texts: Sequence[str], truncate: bool) -> list[Row]:
        tokens, rows = self.package.tokens, []
        for text in texts:
            row = tokens.encode(text, most=self.limit)
            if len(row) > self.limit:
                if not truncate:
                    raise self._too_long(row.describe())
                row = tokens.encode(text, self.limit, self.limit)
            rows.append(row)
        return rows

    def _too_long(self, length: str) -> TooLong:
        return TooLong(
            f"a text has {length}, and this model takes {self.limit}: shorten it, or ask for it to be cut with"
            " the parameter truncate"
        )

    def _compute(self, rows: Sequence[Row]) -> Sequence[Floats]:
        batch = self.package.tokens.pad(rows)
        found = self.head.read(self._runtime.run(batch), batch)
        if not np.isfinite(found).all():
            raise NotFinite("the model's answer holds values that are no numbers")
        return list(found)


def make_limits(package: Package, threads: int, *, shares: bool) -> Limits:
    """The batcher's limits, as the config says or as suits the processors. Unless it `shares`, each row goes alone."""
    config = package.config
    tokens = config.max_batch_tokens or TOKENS_PER_THREAD * threads
    return Limits(
        tokens=tokens if shares else 1,
        delay=config.max_batch_delay_milliseconds / 1000,
        queue=config.max_queue,
        queue_tokens=max(config.max_queue * package.limit, tokens),
        padding=not sees_padding(package.about.model_type),
    )
