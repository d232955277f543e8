"""Every number is what plain transformers finds in the exported model, however it was computed."""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.attempts import (
    TASKS,
    Attempt,
    expect_metrics,
    find_losses,
    load_exported,
    prepare_attempts,
    read_rows,
    run_attempts,
)

BATCHES = (1, 4, 16)
WORLDS = (1, 2, 3)
STAGES = (1, 3)
STEPS = 3
TRAINED_STAGES = {1: (0,), 2: (0, 1, 2, 3), 3: (3,)}
PER_DEVICE = {1: 6, 2: 3, 3: 2}  # rows: the same in all, twice accumulated
EVALUATED = {
    "training__max_steps": STEPS,
    "training__learning_rate": 2e-3,
    "checkpoint__every_steps": 1,
    "checkpoint__keep_last": 9,
}
SIZES = {"vocab_size": 320, "init_std": 0.2, "initializer_range": 0.2}
# Language models whose own loss, or whose count of tokens by the Trainer, is another than the Llamas'.
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, **SIZES},
    "bart": {
        "d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 64,
        "max_position_embeddings": 64, **SIZES,
    },
}  # fmt: skip
FLOAT32 = 1e-6  # relative; some 16 roundings


class Launch:
    """All attempts of one number of processes, by what they are about."""

    def __init__(self, folder: Path, world: int) -> None:
        self.folder = folder
        self.world = world
        self.before: dict[Any, Attempt] = {}
        self.after: dict[Any, Attempt] = {}
        self.still: dict[Any, Attempt] = {}
        self.resumed: dict[Any, Attempt] = {}
        self.learned: dict[Any, Attempt] = {}

    def add_evaluated(self, key: Any, task: str, stage: int, **changes: Any) -> None:
        """A run to its end, and again from its last checkpoint but one."""
        ctx = self._prepare("evaluated", task, stage, **EVALUATED, **changes)
        self.before[key] = Attempt(ctx, batches=BATCHES)
        self.after[key] = Attempt(ctx, number=1, loses=STEPS, batches=BATCHES)

    def add_trained(self, task: str, stage: int) -> None:
        """Two epochs that leave the weights as they are, logged once each."""
        steps = 4 if task == "text-classification" else 2  # an epoch
        logs = {"logging_steps": steps, "logging_first_step": False}
        self.still[task, stage] = Attempt(self._train(f"still-{stage}", task, stage, 1e-12, logs))
        if stage == TRAINED_STAGES[self.world][-1]:
            ctx = self._train("resumed", task, stage, 1e-12, logs)
            self.still["stopped", task] = Attempt(ctx, stops=True)
            self.resumed[task] = Attempt(ctx, number=1)

    def add_family(self, family: str) -> None:
        """Two epochs of another family that leave the weights as they are, logged once each."""
        config = {"model_type": family, **FAMILIES[family]}
        logs = {"logging_steps": 2, "logging_first_step": False}
        changes = {"model__config": config, "model__dropout": 0.0}
        self.still[family] = Attempt(self._train(family, TASKS[1], 1, 1e-12, logs, **changes))

    def add_learned(self, task: str) -> None:
        """Two epochs that learn, each step logged."""
        self.learned[task] = Attempt(self._train("learned", task, 1, 1e-2, {"logging_steps": 1}))

    def run(self) -> None:
        """Runs them all."""
        parts = (self.before, self.after, self.still, self.resumed, self.learned)
        run_attempts(self.folder, self.world, [attempt for part in parts for attempt in part.values()])

    def _train(
        self, name: str, task: str, stage: int, rate: float, args: dict[str, Any], **changes: Any
    ) -> Any:
        return self._prepare(
            name, task, stage, training__max_steps=None, training__num_train_epochs=2.0,
            training__learning_rate=rate, training__lr_scheduler_type="constant", training__args=args,
            training__per_device_train_batch_size=PER_DEVICE[self.world],
            training__gradient_accumulation_steps=2, **changes,
        )  # fmt: skip

    def _prepare(self, name: str, task: str, stage: int, **changes: Any) -> Any:
        root = self.folder / f"{name}-{task}-{stage}-{changes.get('model__dtype')}"
        zero = {"zero_optimization": {"stage": stage}}
        dropout = 0.0 if task == "text-classification" else None
        return prepare_attempts(root, task=task, deepspeed=zero, **{"model__dropout": dropout} | changes)


@pytest.fixture(scope="module")
def launches(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Launches by number of processes, each made when it is first asked for."""

    @cache
    def launch(world: int) -> Launch:
        made = Launch(tmp_path_factory.mktemp(f"world-{world}"), world)
        for task, stage in product(TASKS, STAGES):
            made.add_evaluated((task, stage), task, stage)
        if world == 2:
            made.add_evaluated("bfloat16", "text-classification", 1, model__dtype="bfloat16")
        for task in TASKS:
            for stage in TRAINED_STAGES[world]:
                made.add_trained(task, stage)
            made.add_learned(task)
        if world < 3:
            for family in FAMILIES:
                made.add_family(family)
        made.run()
        return made

    return launch


@pytest.mark.parametrize("resumed", [False, True], ids=["undisturbed", "resumed"])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("world", WORLDS)
def test_metrics_are_those_of_plain_transformers(
    launches: Any, world: int, task: str, stage: int, resumed: bool
) -> None:
    launch: Launch = launches(world)
    attempt = (launch.after if resumed else launch.before)[task, stage]
    model = load_exported(attempt.ctx, "model" if resumed else "model-0")
    measured = attempt.read()["measured"]
    for split in ("validation", "test"):
        expected = expect_metrics(attempt.ctx, model, split)
        for batch in BATCHES:
            assert measured[f"{split} by {batch}"] == pytest.approx(expected, rel=FLOAT32)


@pytest.mark.parametrize("world", WORLDS[1:])
def test_all_ranks_find_the_same_to_the_last_bit(launches: Any, world: int) -> None:
    launch: Launch = launches(world)
    for attempt in launch.before.values():
        told = [attempt.read(rank)["measured"] for rank in range(world)]
        assert all(one == told[0] for one in told)


def test_a_16_bit_classifiers_loss_is_not_of_16_bits(launches: Any) -> None:
    attempt = launches(2).before["bfloat16"]
    model = load_exported(attempt.ctx, "model-0", torch.bfloat16)
    measured = attempt.read()["measured"]
    for split in ("validation", "test"):
        expected = expect_metrics(attempt.ctx, model, split)
        # In batches of one the model computes the very same 16-bit logits.
        assert measured[f"{split} by 1"] == pytest.approx(expected, rel=FLOAT32)
        loss = measured[f"{split} by 16"]["eval_loss"]
        assert loss != float(torch.tensor(loss).bfloat16())


def logged(attempt: Attempt) -> dict[int, float]:
    return {entry["step"]: entry["loss"] for entry in attempt.read()["log"] if "loss" in entry}


def expect_epoch(attempt: Attempt) -> float:
    """The mean over all rows or predicted tokens of the training split, each once."""
    rows = read_rows(attempt.ctx, "train")
    losses, _ = find_losses(load_exported(attempt.ctx), rows, attempt.ctx.run.task == TASKS[0])
    return sum(losses) / len(losses)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("world", WORLDS)
def test_the_logged_loss_is_the_mean_over_all_rows_or_tokens_since_the_last(
    launches: Any, world: int, task: str
) -> None:
    # The last batch of an epoch is short on one process, and filled up with other rows on several.
    for stage in TRAINED_STAGES[world]:
        attempt = launches(world).still[task, stage]
        found = logged(attempt)
        assert len(found) == 2
        expected = expect_epoch(attempt)
        assert list(found.values()) == pytest.approx([expected] * 2, rel=FLOAT32), stage


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("world", WORLDS[:2])
def test_every_familys_logged_loss_is_that_of_the_tokens_that_follow(
    launches: Any, world: int, family: str
) -> None:
    attempt = launches(world).still[family]
    assert list(logged(attempt).values()) == pytest.approx([expect_epoch(attempt)] * 2, rel=FLOAT32)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("world", WORLDS)
def test_a_resumed_run_logs_the_mean_since_the_last_log_before_it_stopped(
    launches: Any, world: int, task: str
) -> None:
    attempt = launches(world).resumed[task]
    found = logged(attempt)
    assert len(found) == 2
    assert list(found.values()) == pytest.approx([expect_epoch(attempt)] * 2, rel=FLOAT32)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("world", WORLDS[1:])
def test_what_is_learned_does_not_depend_on_the_number_of_processes(
    launches: Any, world: int, task: str
) -> None:
    # The second epoch shows whether the gradient of the first one's last step was the same.
    alone, several = (logged(launches(n).learned[task]) for n in (1, world))
    assert alone == pytest.approx(several, rel=1e-4) and len(alone) > 3
