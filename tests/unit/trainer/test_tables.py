"""The tables that the operator decides by are those of the libraries in the trainer's image."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from modelyard.api.trainingjob import Training
from modelyard.training.spec import arguments, optimizers
from modelyard.training.spec.bounds import BOUNDS, CHOICES
from modelyard.training.spec.deepspeed import agreement
from modelyard.training.spec.deepspeed.schema import read_schema
from modelyard.training.spec.deepspeed.support import _COMPILED, _NEVER, _PACKAGES
from modelyard_models.failure import Failure
from modelyard_trainer.train.arguments import _fixed, collect_arguments
from modelyard_trainer.train.devices import Devices
from modelyard_trainer.train.schedule_options import complete_options
from modelyard_trainer.train.schedules import make_schedule

from tests.unit.trainer.builders import make_run
from tests.unit.training import generate_deepspeed, generate_schedulers

CPU = Devices(gpu=False, bfloat16=False)


def training(**changes: Any) -> Any:
    return make_run(**{f"training__{name}": value for name, value in changes.items()}).training


@pytest.mark.parametrize("generator", [generate_deepspeed, generate_schedulers])
def test_a_table_is_fresh(generator: Any) -> None:
    assert generator.TARGET.read_text(encoding="utf-8") == generator.render(generator.build())


def test_paths_in_the_operators_rules_are_deepspeeds() -> None:
    def walk(fields: Any, path: str) -> set[str]:
        found = set()
        for key, field in fields.items():
            found |= {f"{path}{key}"} | walk(field.get("block", {}), f"{path}{key}.")
        return found

    schema = read_schema()
    known = walk(schema["keys"], "")
    known |= {f"optimizer.params.{name}" for name in schema["optimizers"]["AdamW"]}
    known |= {f"scheduler.params.{name}" for name in schema["schedulers"]["WarmupDecayLR"]}
    rules = {*_NEVER, *_COMPILED, *(f"{name}.enabled" for name in _PACKAGES)}
    rules |= {*agreement.FIELDS, *agreement.ARGUMENTS}
    assert rules <= known
    assert set(agreement.SCHEDULERS) <= set(schema["schedulers"])
    names = {name.lower() for name in agreement.OPTIMIZERS}
    assert names == {name.lower() for name in schema["optimizers"]}


def test_a_package_that_the_operator_misses_is_not_in_the_image() -> None:
    modules = {"torch-optimi": "optimi", "grokadamw": "grokadamw"}
    for package in {*optimizers.PACKAGES.values(), *_PACKAGES.values(), "liger_kernel", "mup"}:
        assert importlib.util.find_spec(modules.get(package, package)) is None, package


def test_transformers_asks_for_the_package_that_the_operator_names() -> None:
    from transformers import Trainer, TrainingArguments

    for name in set(arguments.list_optimizers()) - set(optimizers.WORKING):
        package = optimizers.find_package(name)
        assert package is not None
        with pytest.raises((ImportError, ValueError), match=package.replace("-", ".")):
            Trainer.get_optimizer_cls_and_kwargs(TrainingArguments(use_cpu=True, optim=name))


def test_what_the_trainer_sets_itself_can_not_be_given() -> None:
    run = make_run()
    fixed = _fixed(run.training, None, {}, "float32", CPU, Path("x"))
    ours = {*arguments.OWNED, *Training.model_fields}
    assert set(fixed) - ours == {"bf16", "fp16"}, "these follow model.dtype, with which they must agree"


def test_every_argument_that_takes_a_number_is_bounded_or_belongs_to_somebody() -> None:
    free = {
        name
        for name, kinds in arguments.known_arguments().items()
        if {"int", "float"} & set(kinds["kinds"]) and name not in {*arguments.OWNED, *Training.model_fields}
    }
    assert free == set(BOUNDS)


WRONG: dict[str, Any] = {
    "adam_beta1": 1.0, "adam_beta2": -0.1, "adam_epsilon": -1.0, "per_device_eval_batch_size": 0,
    "dataloader_num_workers": -1, "dataloader_prefetch_factor": 2, "logging_steps": 0,
    "torch_empty_cache_steps": 0, "log_level": "loud",
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_the_libraries_refuse_what_the_operator_refuses(name: str) -> None:
    import torch
    from transformers import Trainer, TrainingArguments

    assert name in BOUNDS or name in CHOICES
    with pytest.raises((ValueError, KeyError)):
        args = TrainingArguments(use_cpu=True, report_to="none", **{name: WRONG[name]})
        args.get_process_log_level()
        trainer = Trainer(torch.nn.Linear(2, 2), args, train_dataset=[1], eval_dataset=[1])
        trainer.create_optimizer()
        trainer.get_eval_dataloader()


# What schedules are told.


def test_polynomial_is_transformers_own() -> None:
    import torch
    from transformers import get_polynomial_decay_schedule_with_warmup

    for options in ({}, {"lr_end": 1e-5, "power": 2.0}):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
        theirs = get_polynomial_decay_schedule_with_warmup(optimizer, 5, 40, **options)
        ours = make_schedule("polynomial", 40, 5, {"learning_rate": 1e-3, **options})
        for step in range(45):
            assert 1e-3 * ours(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9, abs=1e-15)
            optimizer.step()
            theirs.step()


def test_polynomial_must_come_down() -> None:
    with pytest.raises(Failure, match=r"lr_end 0\.001 must be"):
        make_schedule("polynomial", 40, 0, {"learning_rate": 1e-3, "lr_end": 1e-3})


def test_a_lowest_rate_is_a_tenth_of_the_peak_unless_told_and_becomes_a_share_of_it() -> None:
    for name in ("cosine_with_min_lr", "cosine_warmup_with_min_lr"):
        plain = training(lr_scheduler_type=name)
        assert complete_options(plain, None, 100) == {"min_lr_rate": 0.1}
        told = training(
            lr_scheduler_type=name, learning_rate=1e-3, args={"lr_scheduler_kwargs": {"min_lr": 2e-4}}
        )
        assert complete_options(told, None, 100) == {"min_lr_rate": pytest.approx(0.2)}


def test_wsd_decays_over_the_last_tenth_but_never_into_the_warm_up() -> None:
    assert complete_options(training(lr_scheduler_type="warmup_stable_decay"), None, 200) == {
        "num_decay_steps": 20
    }
    late = training(lr_scheduler_type="warmup_stable_decay", warmup_steps=0.95)
    assert complete_options(late, None, 200) == {"num_decay_steps": 10}
    long = training(
        lr_scheduler_type="warmup_stable_decay",
        warmup_steps=20,
        args={"lr_scheduler_kwargs": {"num_decay_steps": 90}},
    )
    with pytest.raises(Failure, match="90 is more than the 80 steps after the warm-up"):
        complete_options(long, None, 100)


def test_the_options_reach_transformers() -> None:
    plain = training(lr_scheduler_type="warmup_stable_decay")
    values = collect_arguments(plain, None, {}, "float32", CPU, Path("x"), 50)
    assert values["lr_scheduler_kwargs"] == {"num_decay_steps": 5}


def test_the_table_of_arguments_is_that_of_the_installed_transformers() -> None:
    import dataclasses

    from transformers import TrainingArguments
    from transformers.training_args import OptimizerNames

    assert set(arguments.known_arguments()) == {field.name for field in dataclasses.fields(TrainingArguments)}
    assert set(arguments.list_optimizers()) == {name.value for name in OptimizerNames}
