"""Every schedule and every optimizer that the API lists really runs, under every ZeRO stage and in bfloat16."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from modelyard.api.hyperparameters import SCHEDULERS
from modelyard.training.spec.optimizers import WITHOUT_ZERO, WORKING
from modelyard.training.spec.schedulers import WITHOUT_WARMUP

from tests.trainer.warm import FIXED, ROOT

STEPS, WARMUP, RESUME, PEAK = 6, 2, 3, 1e-3
STAGES = ((1, "bfloat16"), (2, "float32"), (3, "bfloat16"))
PLATEAU = "reduce_lr_on_plateau"
_QUICK = {"factor": 0.5, "patience": 0, "threshold": 10.0}  # no evaluation is good enough


def _case(name: str, stage: int, dtype: str, **more: Any) -> dict[str, Any]:
    changes = {
        "model__dtype": dtype,
        "deepspeed": {"zero_optimization": {"stage": stage}},
        "training__max_steps": STEPS,
        "training__learning_rate": PEAK,
        "training__args": {"logging_steps": 1},
    }
    resume = more.pop("resume", None)
    return {"name": name, "changes": changes | more, "resume": resume}


def _scheduled(name: str, stage: int, dtype: str, resume: int | None = None) -> dict[str, Any]:
    args: dict[str, Any] = {"logging_steps": 1}
    if name == PLATEAU:
        args["lr_scheduler_kwargs"] = _QUICK
    return _case(
        f"{name}-{stage}-{dtype}", stage, dtype, resume=resume, training__args=args,
        training__lr_scheduler_type=name, training__warmup_steps=0 if name in WITHOUT_WARMUP else WARMUP,
        training__eval_steps=2 if name == PLATEAU else None,
    )  # fmt: skip


SCHEDULED = [(name, *kind) for name in SCHEDULERS for kind in STAGES]
OPTIMIZERS = [(name, *kind) for name in WORKING for kind in STAGES[::2] if name != WITHOUT_ZERO]
OPTIMIZERS.append((WITHOUT_ZERO, 0, "float32"))
RESUMED = [(name, *STAGES[number % 3]) for number, name in enumerate(SCHEDULERS)]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    cases = [_scheduled(*case, resume=RESUME if case in RESUMED else None) for case in SCHEDULED]
    cases += [
        _case(f"{name}-{stage}-{dtype}", stage, dtype, training__optim=name)
        for name, stage, dtype in OPTIMIZERS
    ]
    cases += [
        _case(
            "direction", 1, "float32", training__lr_scheduler_type=PLATEAU, training__eval_steps=4,
            gate={"metric": "eval_accuracy", "min": 0.1},
        ),
        _case(
            "deepspeed", 1, "float32",
            deepspeed={
                "zero_optimization": {"stage": 1},
                "optimizer": {"type": "AdamW", "params": {"lr": "auto"}},
                "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_max_lr": "auto", "warmup_num_steps": "auto",
                                                                 "total_num_steps": "auto"}},
            },
        ),
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "tests.trainer.matrix", str(tmp_path_factory.mktemp("matrix"))],
        env=os.environ | FIXED, input=json.dumps(cases), capture_output=True, text=True, timeout=400,
        check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _reference(name: str) -> list[float]:
    """The rate of each step, from torch and transformers on a plain optimizer."""
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    if name == "one_cycle":
        made: Any = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=PEAK, total_steps=STEPS, pct_start=(WARMUP + 1) / STEPS, cycle_momentum=False
        )
    elif name == "cyclic":
        # After the warm-up three triangles from a tenth of the peak to the peak, in four steps.
        triangle = torch.optim.lr_scheduler.CyclicLR(
            optimizer, base_lr=0.1 * PEAK, max_lr=PEAK, step_size_up=1, step_size_down=1, cycle_momentum=False
        )
        rates = []
        for _ in range(STEPS - WARMUP):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            triangle.step()
        return [0.0, 0.05 * PEAK, *rates]
    else:
        options = {
            "cosine_with_min_lr": {"min_lr_rate": 0.1},
            "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1},
            "warmup_stable_decay": {"num_decay_steps": 1},
        }
        made = get_scheduler(name, optimizer, WARMUP, STEPS, options.get(name))
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made.step()
    return rates


@pytest.mark.parametrize(("name", "stage", "dtype"), SCHEDULED)
def test_a_schedule_gives_each_step_the_rate_of_a_plain_optimizers(
    results: dict[str, Any], name: str, stage: int, dtype: str
) -> None:
    found = results[f"{name}-{stage}-{dtype}"]
    assert "error" not in found, found
    assert (found["stage"], found["dtype"]) == (stage, f"torch.{dtype}")
    # Evaluated after 2, 4 and 6 steps, and never good enough.
    expected = [PEAK * f for f in (1, 1, 0.5, 0.5, 0.25, 0.25)] if name == PLATEAU else _reference(name)
    assert list(found["rates"].values()) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("name", "stage", "dtype"), RESUMED)
def test_a_schedule_goes_on_after_a_resume_as_if_nothing_had_been(
    results: dict[str, Any], name: str, stage: int, dtype: str
) -> None:
    whole = results[f"{name}-{stage}-{dtype}"]
    assert "error" not in whole, whole
    resumed = whole["resumed"]
    assert (resumed["rates"], resumed["state"]) == (whole["rates"], whole["state"])
    assert resumed["losses"] == pytest.approx(whole["losses"], rel=1e-6)


@pytest.mark.parametrize(("name", "stage", "dtype"), OPTIMIZERS)
def test_an_optimizer_that_is_said_to_work_trains(
    results: dict[str, Any], name: str, stage: int, dtype: str
) -> None:
    found = results[f"{name}-{stage}-{dtype}"]
    assert "error" not in found, found
    assert (found["stage"], len(found["losses"])) == (stage, STEPS)
    assert all(0.1 < loss < 2 for loss in found["losses"].values())


def test_plateau_waits_for_the_gates_metric_in_the_gates_direction(results: dict[str, Any]) -> None:
    assert results["direction"]["mode"] == "max"
    assert results[f"{PLATEAU}-1-bfloat16"]["mode"] == "min"


def test_deepspeeds_own_optimizer_and_schedule_take_the_runs_rate(results: dict[str, Any]) -> None:
    found = results["deepspeed"]
    assert "error" not in found, found
    assert max(found["rates"].values()) == pytest.approx(PEAK)
