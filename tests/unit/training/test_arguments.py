"""spec.training.args, optim and lrSchedulerType: values that can't be right, and what our image can't run."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard.training.spec.arguments import known_arguments, list_optimizers
from modelyard.training.spec.optimizers import PACKAGES, WORKING, find_package
from modelyard.training.spec.schedulers import read_options

from tests.unit.training.resolving import GPU, job, refusal, resolve

OUTSIDE: list[tuple[dict[str, Any], str]] = [
    ({"per_device_eval_batch_size": 0}, "must be at least 1 and at most 65536, not 0"),
    ({"perDeviceEvalBatchSize": -1}, "spec.training.args.perDeviceEvalBatchSize must be at least 1"),
    ({"max_grad_norm": -1}, "must be at least 0, not -1; 0 turns clipping off"),
    ({"adam_beta1": 1.0}, "must be at least 0 and below 1"),
    ({"adam_beta2": -0.1}, "must be at least 0 and below 1"),
    ({"adam_epsilon": 0}, "must be above 0"),
    ({"label_smoothing_factor": 1}, "must be at least 0 and below 1"),
    ({"label_smoothing_factor": -0.1}, "must be at least 0 and below 1"),
    ({"dataloader_num_workers": -1}, "must be at least 0"),
    ({"dataloader_prefetch_factor": 2}, "is read only with dataloader_num_workers"),
    ({"dataloader_persistent_workers": True}, "is read only with dataloader_num_workers"),
    ({"dataloader_num_workers": 1, "dataloader_prefetch_factor": 0}, "must be at least 1"),
    ({"dataloader_num_workers": 1, "dataloader_multiprocessing_context": "thread"}, "must be one of fork"),
    ({"logging_steps": 0}, "must be above 0, not 0; logging_strategy: no turns logging off"),
    ({"logging_steps": 1.5}, "must be a whole number"),
    ({"logging_steps": -1}, "must be above 0"),
    ({"neftune_noise_alpha": -1}, "must be above 0"),
    ({"eval_delay": -1}, "must be at least 0"),
    ({"torch_empty_cache_steps": 0}, "must be at least 1"),
    ({"ddp_timeout": 0}, "must be at least 1"),
    ({"log_level": "loud"}, "must be one of debug"),
    ({"train_sampling_strategy": "sorted"}, "must be one of random, sequential, group_by_length"),
    ({"include_num_input_tokens_seen": "some"}, "must be one of all"),
    (
        {"gradient_checkpointing_kwargs": {"use_reentrant": False}},
        "set spec.training.args.gradient_checkpointing",
    ),
    (
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"reentrant": False}},
        "is no option of torch's checkpoint",
    ),
    ({"liger_kernel_config": {"rope": True}}, "is read only with use_liger_kernel"),
    ({"use_liger_kernel": True}, "needs the package liger-kernel"),
    ({"torch_compile": True}, "no compiler"),
    ({"torch_compile_mode": "default"}, "no compiler"),
    ({"torch_compile_backend": "inductor"}, "no compiler"),
    ({"tf32": True}, "a CPU has no TF32"),
]


@pytest.mark.parametrize(("args", "words"), OUTSIDE, ids=[str(args) for args, _ in OUTSIDE])
def test_a_value_that_cannot_be_right_is_refused_at_once(args: dict[str, Any], words: str) -> None:
    problem = refusal(job(args=args))
    assert problem.reason == "InvalidArgument"
    assert "spec.training.args." in problem.message and words in problem.message


INSIDE: list[dict[str, Any]] = [
    {"per_device_eval_batch_size": 1},
    {"max_grad_norm": 0},
    {"adam_beta1": 0, "adam_beta2": 0.95, "adam_epsilon": 1e-6},
    {"label_smoothing_factor": 0},
    {"dataloader_num_workers": 2, "dataloader_prefetch_factor": 4, "dataloader_persistent_workers": True},
    {"logging_steps": 0.1},
    {"logging_steps": 25.0, "logging_strategy": "steps"},
    {"activation_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
    {"torch_compile_backend": "aot_eager"},
    {"tf32": False, "full_determinism": True, "eval_on_start": True},
    {"include_num_input_tokens_seen": True},
]


@pytest.mark.parametrize("args", INSIDE, ids=str)
def test_a_value_at_its_bound_is_passed_on(args: dict[str, Any]) -> None:
    assert resolve(job(args=args)).training.args == args


@pytest.mark.parametrize("args", [{"use_liger_kernel": True}, {"torch_compile": True}])
def test_an_image_of_ones_own_may_have_packages_and_a_compiler(args: dict[str, Any]) -> None:
    assert resolve(job(args=args).spec("trainer.image", "registry.example/mine:1")).training.args == args


@pytest.mark.parametrize("name", sorted(set(list_optimizers()) - set(WORKING)))
def test_an_optimizer_whose_package_is_not_in_the_image_is_refused_with_those_that_work(name: str) -> None:
    problem = refusal(job(optim=name))
    assert problem.reason == "InvalidArgument"
    assert f"needs the package {find_package(name)}" in problem.message
    assert "adamw_torch, adamw_torch_fused, adafactor, sgd, rmsprop, adagrad" in problem.message


def test_every_package_belongs_to_an_optimizer_that_transformers_knows() -> None:
    names = [name for name in list_optimizers() if name not in WORKING]
    assert {find_package(name) for name in names} == set(PACKAGES.values())
    assert set(WORKING) <= set(list_optimizers())


def test_with_an_image_of_ones_own_the_pods_decide_about_packages() -> None:
    mine = job(optim="adamw_bnb_8bit").spec("trainer.image", "registry.example/mine:1")
    assert resolve(mine).training.optim == "adamw_bnb_8bit"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"optim": "galore_adamw"}, "needs spec.training.args.optim_target_modules"),
        ({"optim": "galore_adamw_layerwise"}, "can't train under DeepSpeed: use galore_adamw"),
    ],
)
def test_what_an_optimizer_of_ones_own_image_needs_is_named(fields: dict[str, Any], words: str) -> None:
    assert words in refusal(job(**fields).spec("trainer.image", "registry.example/mine:1")).message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"args": {"optim_args": "momentum=0.9"}}, "optim_args has no effect on optim adamw_torch"),
        ({"optim": "sgd", "args": {"optim_args": "momentun=0.9"}}, "of momentum, dampening"),
        ({"optim": "sgd", "args": {"optim_args": "momentum"}}, "write it as momentum=0.9"),
        ({"optim": "sgd", "args": {"optim_args": "momentum=much"}}, "momentum must be a number"),
        (
            {"optim": "sgd", "args": {"optim_args": "momentum=0.9,nesterov=ja"}},
            "nesterov must be true or false",
        ),
        ({"optim": "sgd", "args": {"adam_beta1": 0.8}}, "adam_beta1 has no effect on optim sgd"),
        ({"args": {"optim_target_modules": "all-linear"}}, "optim_target_modules has no effect"),
        ({"optim": "adagrad"}, "set spec.deepspeed.zeroStage to 0"),
    ],
)
def test_options_that_an_optimizer_does_not_read_are_refused(fields: dict[str, Any], words: str) -> None:
    problem = refusal(job(**fields))
    assert problem.reason == "InvalidArgument" and words in problem.message


def test_adagrad_trains_without_zero_and_in_float32_only() -> None:
    plain = job(optim="adagrad").spec("deepspeed.zeroStage", 0)
    assert resolve(plain).training.optim == "adagrad"
    assert "float32 only" in refusal(plain.limits(**GPU)).message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"lrSchedulerType": "cosine_with_min_lr", "args": {"lr_scheduler_kwargs": {"min_lr_rat": 0.1}}},
         "did you mean min_lr_rate?"),
        ({"args": {"lrSchedulerKwargs": {"num_cycles": 2}}}, "is no option of linear, which takes none"),
        ({"lrSchedulerType": "cosine_with_restarts", "args": {"lr_scheduler_kwargs": {"num_cycles": 1.5}}},
         "must be int, not 1.5"),
        ({"lrSchedulerType": "cosine_with_restarts", "args": {"lr_scheduler_kwargs": {"num_cycles": 0}}},
         "must be above 0"),
        ({"lrSchedulerType": "warmup_stable_decay", "args": {"lr_scheduler_kwargs": {"decay_type": "sqrt"}}},
         "must be one of linear, cosine, 1-sqrt"),
        ({"lrSchedulerType": "warmup_stable_decay", "maxSteps": 10,
          "args": {"lr_scheduler_kwargs": {"num_decay_steps": 20}}},
         "is more than spec.training.maxSteps 10"),
        ({"lrSchedulerType": "polynomial", "learningRate": 1e-8}, "must be below spec.training.learningRate 1e-08"),
        ({"lrSchedulerType": "cosine_with_min_lr", "args": {"lr_scheduler_kwargs": {"min_lr": 1.0}}},
         "is above spec.training.learningRate"),
        ({"lrSchedulerType": "cosine_with_min_lr",
          "args": {"lr_scheduler_kwargs": {"min_lr": 1e-6, "min_lr_rate": 0.1}}},
         "say the same thing twice"),
        ({"lrSchedulerType": "cosine", "args": {"lr_scheduler_kwargs": "num_cycles=2"}}, "must be a mapping"),
        ({"lrSchedulerType": "constant", "warmupSteps": 5}, "use constant_with_warmup"),
    ],
)  # fmt: skip
def test_options_that_a_schedule_does_not_take_are_refused(fields: dict[str, Any], words: str) -> None:
    problem = refusal(job(**fields))
    assert problem.reason == "InvalidArgument" and words in problem.message


def test_every_option_of_a_schedule_has_a_value_that_is_accepted() -> None:
    values = {"str": "min", "int": 1, "float": 0.5}
    for name, options in read_options().items():
        for option, kinds in options.items():
            value: Any = values[next(kind for kind in ("int", "float", "str") if kind in kinds)]
            if option.endswith("_type"):
                value = "cosine"
            elif option == "threshold_mode":
                value = "rel"
            elif option in ("lr_end", "min_lr"):
                value = 1e-6
            run = resolve(job(lrSchedulerType=name, args={"lr_scheduler_kwargs": {option: value}}))
            assert run.training.args["lr_scheduler_kwargs"] == {option: value}


def test_reduce_lr_on_plateau_is_evaluated_ten_times_unless_told_otherwise() -> None:
    assert resolve(job(lrSchedulerType="reduce_lr_on_plateau", maxSteps=100)).training.eval_steps == 10
    told = job(lrSchedulerType="reduce_lr_on_plateau", maxSteps=100, evalSteps=3)
    assert resolve(told).training.eval_steps == 3
    without = job(lrSchedulerType="reduce_lr_on_plateau").spec("data.split.validation", 0)
    assert "needs a validation split" in refusal(without).message


def test_ones_own_program_is_not_held_to_what_our_trainer_reads() -> None:
    own = job(optim="lion_32bit", args={"torch_compile": True}).command("python", "train.py")
    assert resolve(own).training.optim == "lion_32bit"


def test_bounds_are_of_arguments_that_exist() -> None:
    from modelyard.training.spec.bounds import BOUNDS, CHOICES, NEEDS

    names = {*BOUNDS, *CHOICES, *NEEDS, *(needed for needed, _ in NEEDS.values())}
    assert names <= set(known_arguments())
