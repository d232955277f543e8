"""`python -m modelyard_build.measuring PLAN FIGURES` measures the variant that the server config names."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from modelyard_models.failure import Failure, boundary
from modelyard_models.files import write_atomic
from modelyard_server.process import explain
from modelyard_server.serving.served import Served
from modelyard_server.serving.service import Service
from modelyard_server.settings import Settings, read_settings, set_environment
from modelyard_server.tasks import find_task

from modelyard_build.child import end, leave_failure
from modelyard_build.measuring.knee import climb, measure_rate
from modelyard_build.measuring.plan import Figures, Plan
from modelyard_build.rows import Rows
from modelyard_build.tasks import TASKS
from modelyard_build.tasks.predictive import PredictiveTask, RowAsker
from modelyard_build.tasks.task import Asker

_AT_ONCE = 64  # rows that are asked for together while the answers are gathered
_ALONE = 40  # requests, one after the other, for the latency
_ALONE_SECONDS = 2.0
_STEP_SECONDS = 1.0  # of one number of callers


def main() -> int:
    """Writes figures, answers and reference, or a failure in the figures' place."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    figures = Path(sys.argv[2])
    try:
        plan = Plan.model_validate_json(Path(sys.argv[1]).read_bytes())
        settings = read_settings()
        set_environment(settings.threads)
        import uvloop

        found = uvloop.run(measure(plan, settings))
        write_atomic(figures, found.model_dump_json())
    except Failure as failure:
        return leave_failure(failure, figures)
    return 0


async def measure(plan: Plan, settings: Settings) -> Figures:
    """Loads the model as a server does, and asks it. Raises Failure."""
    service = Service(settings)
    with _explained(service):
        model = await asyncio.get_running_loop().run_in_executor(
            service.executor, find_task(settings.config.task).load, service
        )
    try:
        with _explained(service):
            model.start()
            await model.prove()
        load_seconds = time.monotonic() - plan.begun
        with boundary(
            "ModelUnproven", "the model does not answer", "the build's log says why; serve another"
        ):
            return await _ask(plan, service, model, load_seconds)
    except Failure:
        await model.close()  # why a model that generates has ended is known when it has
        if (why := model.explain_end()).reason == "HostOutOfMemory":
            raise why from None
        raise
    finally:
        await model.close()


@contextmanager
def _explained(service: Service) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise explain(error, service) from error


async def _ask(plan: Plan, service: Service, model: Served, load_seconds: float) -> Figures:
    kind, rows = TASKS[service.config.task], Rows.read(plan.rows)
    asker = await kind.make_asker(service, model, rows)
    answered = 0
    if isinstance(kind, PredictiveTask) and isinstance(asker, RowAsker):
        vectors = await gather_answers(asker, plan)
        np.savez(plan.answers, **kind.gather(asker.model, vectors))
        answered = len(vectors)
        if plan.reference is not None:
            reference = await kind.refer(asker, rows.split)
            write_atomic(plan.reference, reference.model_dump_json(by_alias=True))
    latency = await measure_latency(asker)
    knee = await climb(partial(_measure_rate, asker))
    return Figures(
        rows=answered,
        max_length=model.limit,
        load_seconds=load_seconds,
        latency_milliseconds=latency * 1000,
        requests_per_second=knee.rate,
        concurrency=knee.callers,
    )


async def _measure_rate(asker: Asker[Any], callers: int) -> float:
    return await measure_rate(lambda number: asker.ask(number % asker.size), callers, _STEP_SECONDS)


async def gather_answers(asker: Asker[Any], plan: Plan) -> list[Any]:
    """The answers to the first rows: all that the plan asks for, or those that are sent before its time is over."""
    answers: dict[int, Any] = {}
    numbers = itertools.count()
    until = math.inf if plan.seconds is None else time.monotonic() + plan.seconds
    count = asker.size if plan.count is None else min(plan.count, asker.size)

    async def call() -> None:
        while time.monotonic() < until and (number := next(numbers)) < count:
            answers[number] = await asker.ask(number)

    await asyncio.gather(*(call() for _ in range(_AT_ONCE)))
    return [answers[number] for number in range(len(answers))]


async def measure_latency(asker: Asker[Any]) -> float:
    """The median of one request alone, in seconds."""
    times: list[float] = []
    until = time.monotonic() + _ALONE_SECONDS
    for number in range(_ALONE):
        begun = time.perf_counter()
        await asker.ask(number % asker.size)
        times.append(time.perf_counter() - begun)
        if time.monotonic() > until:
            break
    return statistics.median(times)


if __name__ == "__main__":
    end(main)
