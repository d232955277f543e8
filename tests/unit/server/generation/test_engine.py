"""Continuous batching gives what transformers' generate() gives, whatever runs beside it, and frees what was left."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import torch
from modelyard_server.batching import progress
from modelyard_server.generation.request import GREEDY, Broken, Ended, Sampling
from modelyard_server.generation.sampling import draw
from modelyard_server.serving.generator import Generator
from modelyard_server.serving.served import TooLong

from tests.unit.server.models import generating, make_service, write_generator
from tests.unit.trainer.builders import LLAMA

TASK = "text-generation"
LENGTHS = [1, 2, 5, 9, 17, 31, 32, 33, 40, 64, 90, 3]


def with_engine(folder: Path, test: Callable[[Generator], Awaitable[None]], **config: Any) -> None:
    async def whole() -> None:
        async with generating(make_service(folder, TASK, **config)) as model:
            await test(model)

    asyncio.run(whole())


def make_prompts(lengths: list[int]) -> list[list[int]]:
    torch.manual_seed(1)
    return [torch.randint(4, 320, (length,)).tolist() for length in lengths]


async def make(model: Generator, ids: list[int], most: int, sampling: Sampling = GREEDY) -> list[int]:
    async with aclosing(model._engine.generate(ids, most, sampling)) as tokens:
        return [token async for token in tokens]


def generate(model: Generator, ids: list[int], most: int) -> list[int]:
    """transformers' own, of the same prompt alone."""
    made = model._model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), max_new_tokens=most,
        do_sample=False, eos_token_id=sorted(model._ends), pad_token_id=0, use_cache=True,
    )  # fmt: skip
    found: list[int] = made[0, len(ids) :].tolist()
    return found


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("tokens", [None, 16])
def test_many_lengths_at_once_are_continued_as_each_alone(
    name: str, tokens: int | None, request: pytest.FixtureRequest
) -> None:
    prompts = make_prompts(LENGTHS)
    most = [min(24, 128 - len(ids)) for ids in prompts]

    async def test(model: Generator) -> None:
        found = await asyncio.gather(*map(make, [model] * len(prompts), prompts, most))
        again = await asyncio.gather(
            *map(make, [model] * len(prompts), prompts, most)
        )  # prompts are remembered
        for ids, limit, row, second in zip(prompts, most, found, again, strict=True):
            assert row == second == generate(model, ids, limit)

    with_engine(request.getfixturevalue(name), test, max_batch_tokens=tokens, max_queue=12)


def test_no_text_is_so_long_that_its_positions_would_be_others_texts_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Phi-3 and kin have other rotary positions for long texts, and transformers takes them for all of a batch."""
    folder, factors = tmp_path / "model", {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    write_generator(
        folder,
        LLAMA | {"model_type": "phi3", "pad_token_id": 0, "original_max_position_embeddings": 32},
        rope_parameters={
            "rope_type": "longrope", "rope_theta": 10000.0, **factors
        },
    )  # fmt: skip
    prompts = make_prompts([5, 20, 12])

    async def test(model: Generator) -> None:
        assert model.limit == 32
        row = model.package.tokens.take(make_prompts([33])[0])
        with pytest.raises(TooLong):
            model.count_room(row, 1)
        most = [32 - len(ids) for ids in prompts]
        found = await asyncio.gather(*map(make, [model] * 3, prompts, most))
        assert found == [generate(model, *one) for one in zip(prompts, most, strict=True)]

    with caplog.at_level(logging.INFO):
        with_engine(folder, test)
    assert "texts have at most 32 tokens" in caplog.text


def test_more_than_the_cache_holds_is_continued_all_the_same(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests lose their places and begin anew, with what they had made as prompt."""
    monkeypatch.setattr("modelyard_server.generation.memory.plan_blocks", lambda *args: 12)
    prompts = make_prompts([20, 21, 22, 23, 24, 25, 26, 27])

    async def test(model: Generator) -> None:
        assert model._engine._processor.cache.num_blocks == 12
        greedy = await asyncio.gather(*(make(model, ids, 90) for ids in prompts))
        assert greedy == [generate(model, ids, 90) for ids in prompts]
        drawn = await asyncio.gather(*(make(model, ids, 90, Sampling(1.0, 1.0, 3)) for ids in prompts))
        assert drawn == [await make(model, ids, 90, Sampling(1.0, 1.0, 3)) for ids in prompts]

    with_engine(llama, test)


def test_each_token_is_drawn_from_the_models_distribution_by_seed_and_place(llama: Path) -> None:
    async def test(model: Generator) -> None:
        sampling = Sampling(0.8, 0.9, 11)
        [ids] = make_prompts([10])
        others = [
            make(model, other, 20, Sampling(1.0, 1.0, i)) for i, other in enumerate(make_prompts([7] * 5))
        ]
        made, *_ = await asyncio.gather(make(model, ids, 20, sampling), *others)
        assert made == await make(model, ids, 20, sampling)
        assert made != await make(model, ids, 20, Sampling(0.8, 0.9, 12))
        for place, token in enumerate(made):
            with torch.inference_mode():
                logits = model._model(torch.tensor([ids + made[:place]])).logits[0, -1].float()
            assert draw(logits, sampling, place) == token

    with_engine(llama, test)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a thread does it
            await asyncio.sleep(0.01)


def test_who_leaves_frees_the_place_and_the_cache(llama: Path) -> None:
    async def test(model: Generator) -> None:
        engine = model._engine
        scheduler, [blocks] = engine._processor.scheduler, engine._processor.cache.cache_allocators.values()
        steps, before = threading.Semaphore(0), model._model.forward

        def forward(*args: Any, **options: Any) -> Any:
            steps.acquire(timeout=60)
            return before(*args, **options)

        model._model.forward = forward
        for taken in (0, 3):
            tokens = engine.generate(make_prompts([40])[0], 80, Sampling(1.0, 1.0, 1))
            doing = asyncio.ensure_future(anext(tokens))
            await until(lambda: bool(scheduler.active_requests))
            assert (engine.waiting, engine.running) == (0, 1)
            assert blocks.block_table
            if taken:
                steps.release(taken)
                await doing
            else:
                doing.cancel()
                await asyncio.wait([doing])
            await tokens.aclose()
            assert not engine._open
            steps.release(2)  # of the 80 that the answer would take
            await until(
                lambda: not (scheduler.active_requests or scheduler.waiting_requests or blocks.block_table)
            )
        assert (engine.waiting, engine.running) == (0, 0)

    with_engine(llama, test)


def test_callers_that_all_leave_a_cache_that_is_too_small_leave_nothing(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of OpenVINO's server: after a mass restart of clients blocks were lost, and every request hung."""
    monkeypatch.setattr("modelyard_server.generation.memory.plan_blocks", lambda *args: 10)
    order = random.Random(4)  # noqa: S311 - a test's order

    async def leave(model: Generator, ids: list[int], after: int) -> None:
        async with aclosing(model._engine.generate(ids, 100, Sampling(1.0, 1.0, after))) as tokens:
            async for _ in tokens:
                after -= 1
                if after < 0:
                    return

    async def test(model: Generator) -> None:
        for _ in range(3):
            prompts = make_prompts([order.randint(1, 25) for _ in range(24)])
            going = [asyncio.ensure_future(leave(model, ids, order.randint(0, 60))) for ids in prompts]
            await asyncio.sleep(order.random() * 0.3)
            for one in going[::2]:
                one.cancel()
            await asyncio.wait(going)
        engine = model._engine
        scheduler, [blocks] = engine._processor.scheduler, engine._processor.cache.cache_allocators.values()
        await until(
            lambda: not (scheduler.active_requests or scheduler.waiting_requests or blocks.block_table)
        )
        assert not scheduler.waiting_requests_order
        [ids] = make_prompts([20])
        assert await make(model, ids, 100) == generate(model, ids, 100)

    with_engine(llama, test)


def test_logits_that_are_no_numbers_fail_their_request_alone(llama: Path) -> None:
    async def test(model: Generator) -> None:
        with torch.no_grad():
            model._model.get_input_embeddings().weight[300] = torch.nan
        good = [5, 6, 7]
        found = await asyncio.gather(
            make(model, good, 8), make(model, [5, 300, 7], 8), make(model, [8, 9], 8), return_exceptions=True
        )
        assert isinstance(found[1], Broken)
        assert found[0] == generate(model, good, 8)
        assert isinstance(found[2], list)
        assert model.alive
        async with asyncio.timeout(60):  # a step that had begun may tell of it again
            while model._engine._sampler.broken:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)

    with_engine(llama, test)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("no kernel"), "ModelCrashed"),
        (MemoryError(), "HostOutOfMemory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
            "HostOutOfMemory",
        ),
    ],
)
def test_a_crash_ends_all_requests_and_says_why(llama: Path, error: Exception, reason: str) -> None:
    async def test(model: Generator) -> None:
        def fail(*args: Any, **options: Any) -> None:
            raise error

        model._model.forward = fail
        found = await asyncio.gather(
            *(make(model, [5, 6, i], 8) for i in range(9, 13)), return_exceptions=True
        )
        assert [type(one) for one in found] == [Ended] * 4
        await until(lambda: not model.alive)
        assert model.explain_end().reason == reason
        with pytest.raises(Ended):
            await make(model, [5], 3)

    with_engine(llama, test)


def test_a_step_that_never_ends_is_told_as_a_hang_and_steps_that_end_are_not(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let, begun = threading.Event(), threading.Event()

    async def test(model: Generator) -> None:
        monkeypatch.setattr(progress, "FACTOR", 0.0)
        await make(model, [5, 6, 7], 8)
        await until(lambda: model.progress._running is None)
        monkeypatch.setattr(progress, "PATIENCE", 0.0)
        assert model.alive  # it has nothing to do
        monkeypatch.setattr(progress, "PATIENCE", 3600.0)
        before = model._model.forward

        def forward(*args: Any, **options: Any) -> Any:
            begun.set()
            let.wait(60)
            return before(*args, **options)

        model._model.forward = forward
        asking = asyncio.ensure_future(make(model, [5, 6], 3))
        await until(begun.is_set)
        assert model.alive
        monkeypatch.setattr(progress, "PATIENCE", 0.0)
        await until(lambda: not model.alive)
        failure = model.explain_end()
        assert (failure.reason, failure.temporary) == ("ModelHung", True)
        assert "the model hangs: it has computed 2 tokens for" in failure.message
        model.abandon()
        with pytest.raises(Ended):
            await asking
        let.set()

    try:
        with_engine(llama, test)
    finally:
        let.set()


@pytest.mark.parametrize(("variant", "dtype"), [("none", torch.float32), ("bf16", torch.bfloat16)])
def test_a_variant_is_computed_and_remembered_in_its_format(
    llama: Path, variant: str, dtype: torch.dtype
) -> None:
    async def test(model: Generator) -> None:
        assert model._model.dtype == model._engine._processor.cache.dtype == dtype
        assert len(await make(model, [5, 6, 7], 8)) == 8

    with_engine(llama, test, variant=variant)


def test_close_ends_what_is_under_way(llama: Path) -> None:
    async def whole() -> None:
        async with generating(make_service(llama, TASK)) as model:
            going = asyncio.ensure_future(make(model, [5, 6], 126, Sampling(1.0, 1.0, 9)))
            await until(lambda: model.running == 1)
        with pytest.raises(Ended):
            await going

    asyncio.run(whole())
