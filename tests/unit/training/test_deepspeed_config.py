"""spec.deepspeed.config: its keys, what it may ask for, and what it says beside spec.training."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard.api.trainingjob import TrainingJobSpec
from modelyard.training.spec.deepspeed.config import build_config

from tests.builders import TrainingJobBuilder
from tests.unit.training.resolving import GPU, configured, job, refusal, resolve

ROOT = "spec.deepspeed.config"
# A configuration as they stand in many public repositories.
COPIED: dict[str, Any] = {
    "fp16": {
        "enabled": "auto", "loss_scale": 0, "loss_scale_window": 1000, "initial_scale_power": 16,
        "hysteresis": 2, "min_loss_scale": 1,
    },
    "bf16": {"enabled": "auto"},
    "optimizer": {
        "type": "AdamW",
        "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"},
    },
    "scheduler": {
        "type": "WarmupDecayLR",
        "params": {
            "warmup_min_lr": "auto", "warmup_max_lr": "auto", "warmup_num_steps": "auto", "total_num_steps": "auto",
        },
    },
    "zero_optimization": {
        "stage": 3,
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
        "offload_param": {"device": "cpu", "pin_memory": True},
        "overlap_comm": True, "contiguous_gradients": True, "sub_group_size": 1e9, "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto", "stage3_param_persistence_threshold": "auto",
        "stage3_max_live_parameters": 1e9, "stage3_max_reuse_distance": 1e9,
        "stage3_gather_16bit_weights_on_model_save": True,
    },
    "gradient_accumulation_steps": "auto", "gradient_clipping": "auto", "steps_per_print": 2000,
    "train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "wall_clock_breakdown": False,
}  # fmt: skip
ZERO = "zero_optimization"

KEYS: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt block": ({"zero_optimisation": {"stage": 2}}, "did you mean zero_optimization?"),
    "a misspelt key": (
        {ZERO: {"stage": 2, "overlap_com": True}},
        f"{ROOT}.{ZERO}.overlap_com is unknown to DeepSpeed; did you mean overlap_comm?",
    ),
    "a quoted stage": (
        {ZERO: {"stage": "2"}},
        f'{ROOT}.{ZERO}.stage must be a whole number, not "2"; write 2',
    ),
    "a stage that is filled in by nobody": ({ZERO: {"stage": "auto"}}, f"{ROOT}.{ZERO}.stage"),
    "a stage that isn't one": ({ZERO: {"stage": 4}}, "must be one of 0, 1, 2, 3, not 4"),
    "a stage at the top": ({"stage": 2}, f"it belongs at {ZERO}.stage"),
    "offloading at the top": (
        {"offload_optimizer": {"device": "cpu"}},
        f"it belongs at {ZERO}.offload_optimizer",
    ),
    "a key of a block inside another": (
        {ZERO: {"stage": 3, "pin_memory": True}},
        f"{ZERO}.offload_optimizer.pin_memory or {ZERO}.offload_param.pin_memory",
    ),
    "a rate at the top": ({"lr": 1e-4}, "it belongs at optimizer.params.lr"),
    "a boolean instead of the block": ({ZERO: True}, f"{ROOT}.{ZERO} must be a block of keys"),
    "a quoted boolean": ({ZERO: {"stage": 1, "overlap_comm": "true"}}, "write true without quotes"),
    "an unknown device": (
        {ZERO: {"stage": 2, "offload_optimizer": {"device": "gpu"}}},
        "must be one of cpu, none, nvme",
    ),
    "a size below its bound": ({ZERO: {"stage": 2, "reduce_bucket_size": 0}}, "must be above 0, not 0"),
    "an old name": (
        {ZERO: {"stage": 2, "cpu_offload": True}},
        "is deprecated in DeepSpeed: use offload_optimizer",
    ),
    "an old name of gathering": (
        {ZERO: {"stage": 3, "stage3_gather_fp16_weights_on_model_save": True}},
        "use stage3_gather_16bit_weights_on_model_save",
    ),
    "a name that the Trainer overlooks": (
        {ZERO: {"stage": 3, "gather_16bit_weights_on_model_save": True}},
        "only DeepSpeed itself reads; use stage3_gather_16bit_weights_on_model_save",
    ),
    "an old name of a block": ({"bfloat16": {"enabled": True}}, "is not read by DeepSpeed; use bf16"),
    "an unknown data type": ({"communication_data_type": "fp8"}, "must be one of fp16, bf16, fp32"),
    "auto where nothing fills it in": ({"steps_per_print": "auto"}, "nothing fills it in"),
    "an unknown optimizer": ({"optimizer": {"type": "AdamWW"}}, "did you mean AdamW?"),
    "a module of torch's for an optimizer": ({"optimizer": {"type": "sgd"}}, "did you mean SGD?"),
    "no optimizer's name": ({"optimizer": {"params": {"lr": "auto"}}}, f"{ROOT}.optimizer needs type"),
    "a misspelt parameter": (
        {"optimizer": {"type": "AdamW", "params": {"weight_deca": 0.1}}},
        f"{ROOT}.optimizer.params.weight_deca is no parameter of AdamW; did you mean weight_decay?",
    ),
    "clipping in the optimizer": (
        {"optimizer": {"type": "AdamW", "params": {"max_grad_norm": 1.0}}},
        "spec.training.args.max_grad_norm",
    ),
    "a quoted rate": (
        {"optimizer": {"type": "AdamW", "params": {"lr": "3e-5"}}},
        "write 3e-05 without quotes",
    ),
    "a beta of 1": (
        {"optimizer": {"type": "AdamW", "params": {"betas": [0.9, 1]}}},
        "must be at least 0 and below 1, not 1",
    ),
    "one beta": ({"optimizer": {"type": "AdamW", "params": {"betas": [0.9]}}}, "betas must be two numbers"),
    "an unknown schedule": ({"scheduler": {"type": "WarmupLinear"}}, f"{ROOT}.scheduler.type"),
    "an option of another schedule": (
        {"scheduler": {"type": "WarmupLR", "params": {"total_num_steps": 10}}},
        f"{ROOT}.scheduler.params.total_num_steps is no parameter of WarmupLR",
    ),
    "no warm-up steps": (
        {"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 0}}},
        "must be at least 1, not 0",
    ),
}


@pytest.mark.parametrize("name", KEYS)
def test_a_key_or_value_that_deepspeed_would_take_otherwise_is_refused(name: str) -> None:
    config, words = KEYS[name]
    problem = refusal(configured(**config))
    assert problem.reason == "InvalidSpec"
    assert words in problem.message


SUPPORT: dict[str, tuple[dict[str, Any], str]] = {
    "a model without weights": (
        {ZERO: {"stage": 3, "stage3_gather_16bit_weights_on_model_save": False}},
        "would be exported without its weights",
    ),
    "fp16 on a CPU": ({"fp16": {"enabled": True}}, f"{ROOT}.fp16.enabled can't be true on a CPU"),
    "storage in nvme": (
        {ZERO: {"stage": 3, "offload_param": {"device": "nvme", "nvme_path": "/x"}}},
        f"{ROOT}.{ZERO}.offload_param.device nvme needs code that is compiled",
    ),
    "DeepSpeed's Adam on the CPU": (
        {"zero_force_ds_cpu_optimizer": True, ZERO: {"stage": 2, "offload_optimizer": {"device": "cpu"}}},
        "set it to false",
    ),
    "DeepSpeed's fused Adam": (
        {"optimizer": {"type": "AdamW", "params": {"torch_adam": False}}},
        f"{ROOT}.optimizer.params.torch_adam false",
    ),
    "an optimizer with kernels": (
        {"optimizer": {"type": "Lamb"}},
        f"{ROOT}.optimizer.type Lamb needs code that is compiled",
    ),
    "an optimizer of a package": ({"optimizer": {"type": "MuAdam"}}, "needs the package mup"),
    "a monitor of a package": ({"tensorboard": {"enabled": True}}, "needs the package tensorboard"),
    "quantised weights": ({ZERO: {"stage": 3, "zero_quantized_weights": True}}, "has no compiler"),
    "DeepSpeed's own loader": ({"dataloader_drop_last": True}, "has no use in this trainer"),
    "checkpoints": ({"checkpoint": {"use_node_local_storage": True}}, "spec.checkpoint"),
    "divided layers": ({"tensor_parallel": {"autotp_size": 2}}, "use ZeRO stage 3"),
    "DeepSpeed's checkpointing of activations": (
        {"activation_checkpointing": {"partition_activations": True}},
        "gradient_checkpointing: true",
    ),
    "two 16-bit types": (
        {"fp16": {"enabled": True}, "bf16": {"enabled": True}},
        f"{ROOT}.fp16.enabled true contradicts {ROOT}.bf16.enabled true",
    ),
    "a sum of gradients under stage 3": ({ZERO: {"stage": 3}, "gradient_allreduce_op": "sum"}, "use mean"),
}


@pytest.mark.parametrize("name", SUPPORT)
def test_what_the_trainer_or_its_image_cannot_give_is_refused(name: str) -> None:
    config, words = SUPPORT[name]
    problem = refusal(configured(**config))
    assert problem.reason == "InvalidSpec"
    assert words in problem.message


@pytest.mark.parametrize(
    "config",
    [
        {"tensorboard": {"enabled": True}},
        {"optimizer": {"type": "Lamb"}},
        {ZERO: {"stage": 3, "zero_quantized_weights": True}},
    ],
)
def test_an_image_of_ones_own_may_have_what_ours_lacks(config: dict[str, Any]) -> None:
    resolve(configured(**config).spec("trainer.image", "registry.example/mine:1"))


def test_what_is_off_is_no_reason_to_refuse() -> None:
    resolve(
        configured(
            activation_checkpointing={"partition_activations": False, "number_checkpoints": None},
            tensorboard={"enabled": False},
            tensor_parallel={"autotp_size": 1},
            hybrid_engine={"enabled": False},
        )
    )


def test_a_copied_configuration_is_passed_on_as_it_is() -> None:
    assert resolve(configured(**COPIED)).deepspeed == COPIED


def test_the_users_object_is_not_changed() -> None:
    given = {"optimizer": {"type": "AdamW"}}
    spec = TrainingJobSpec.model_validate(configured(**given).build()["spec"])
    assert build_config(spec, on_cpu=True)["optimizer"] != given["optimizer"]
    assert spec.deepspeed.config == given


def test_what_a_block_leaves_open_is_spec_trainings_word_and_not_deepspeeds_default() -> None:
    blocks = {"optimizer": {"type": "AdamW"}, "scheduler": {"type": "WarmupDecayLR"}}
    passed = resolve(configured(**blocks)).deepspeed
    assert passed["optimizer"]["params"] == dict.fromkeys(("lr", "betas", "eps", "weight_decay"), "auto")
    assert passed["scheduler"]["params"]["warmup_max_lr"] == "auto"


# One rule: where both say it they agree, what only the configuration says is taken over.

OPTIMIZER = {
    "optimizer": {
        "type": "AdamW", "params": {"lr": 3e-5, "betas": [0.8, 0.99], "eps": 1e-7, "weight_decay": 0.1},
    }
}  # fmt: skip


def test_what_only_the_configuration_says_is_taken_over() -> None:
    config = OPTIMIZER | {
        "scheduler": {
            "type": "WarmupDecayLR",
            "params": {"warmup_max_lr": 3e-5, "warmup_num_steps": 20, "total_num_steps": 200},
        },
        "gradient_clipping": 0.5,
        "train_batch_size": 64,
        "train_micro_batch_size_per_gpu": 8,
        "gradient_accumulation_steps": 8,
        "bf16": {"enabled": True},
    }
    run = resolve(configured(**config))
    training = run.training
    assert (training.learning_rate, training.weight_decay, training.warmup_steps) == (3e-5, 0.1, 20)
    assert (training.max_steps, training.num_train_epochs) == (200, None)
    assert (training.optim, training.lr_scheduler_type) == ("adamw_torch", "linear")
    assert (training.global_batch_size, training.per_device_train_batch_size) == (64, 8)
    assert training.gradient_accumulation_steps == 8
    assert training.args == {
        "adam_beta1": 0.8,
        "adam_beta2": 0.99,
        "adam_epsilon": 1e-7,
        "max_grad_norm": 0.5,
    }
    assert run.model is not None and run.model.dtype == "bfloat16"


def test_equal_values_may_stand_on_both_sides() -> None:
    both = job(learningRate=3e-5, weightDecay=0.1, optim="adamw_torch_fused", args={"adamBeta1": 0.8})
    assert resolve(configured(both, **OPTIMIZER)).training.learning_rate == 3e-5


@pytest.mark.parametrize(
    ("builder", "paths"),
    [
        (
            configured(job(learningRate=1e-4), **OPTIMIZER),
            ("optimizer.params.lr 3e-05", "spec.training.learningRate"),
        ),
        (
            configured(job(weightDecay=0.2), **OPTIMIZER),
            ("optimizer.params.weight_decay", "spec.training.weightDecay"),
        ),
        (
            configured(job(args={"adamBeta2": 0.9}), **OPTIMIZER),
            ("optimizer.params.betas 0.99", "spec.training.args.adamBeta2 0.9"),
        ),
        (
            configured(job(args={"adam_epsilon": 1e-8}), **OPTIMIZER),
            ("optimizer.params.eps", "spec.training.args.adam_epsilon"),
        ),
        (configured(job(optim="sgd"), **OPTIMIZER), ("optimizer.type", "spec.training.optim")),
        (
            configured(job(args={"max_grad_norm": 1.0}), gradient_clipping=0.5),
            ("gradient_clipping 0.5", "spec.training.args.max_grad_norm 1.0"),
        ),
        (
            configured(job(lrSchedulerType="cosine"), scheduler={"type": "WarmupLR"}),
            ("scheduler.type", "spec.training.lrSchedulerType"),
        ),
        (
            configured(
                job(warmupSteps=10), scheduler={"type": "WarmupLR", "params": {"warmup_num_steps": 20}}
            ),
            ("scheduler.params.warmup_num_steps 20", "spec.training.warmupSteps 10"),
        ),
        (
            configured(
                job(maxSteps=100), scheduler={"type": "WarmupDecayLR", "params": {"total_num_steps": 200}}
            ),
            ("scheduler.params.total_num_steps 200", "spec.training.maxSteps 100"),
        ),
        (
            configured(
                job(numTrainEpochs=1), scheduler={"type": "WarmupDecayLR", "params": {"total_num_steps": 200}}
            ),
            ("scheduler.params.total_num_steps 200", "spec.training.numTrainEpochs 1"),
        ),
        (
            configured(**OPTIMIZER, scheduler={"type": "WarmupLR", "params": {"warmup_max_lr": 1e-3}}),
            ("scheduler.params.warmup_max_lr 0.001", f"{ROOT}.optimizer.params.lr 3e-05"),
        ),
        (
            configured(job(globalBatchSize=32), train_batch_size=64),
            ("train_batch_size 64", "spec.training.globalBatchSize 32"),
        ),
        (
            configured(job(perDeviceTrainBatchSize=4), train_micro_batch_size_per_gpu=8),
            ("train_micro_batch_size_per_gpu 8", "spec.training.perDeviceTrainBatchSize 4"),
        ),
        (
            configured(job().spec("model.dtype", "float32"), bf16={"enabled": True}),
            ("bf16.enabled true", 'spec.model.dtype "float32"'),
        ),
        (
            configured(job().spec("model.dtype", "bfloat16"), bf16={"enabled": False}),
            ("bf16.enabled false", 'spec.model.dtype "bfloat16"'),
        ),
        (
            configured(job(args={"bf16": True}).limits(**GPU), fp16={"enabled": True}),
            ("fp16.enabled true", "spec.training.args.bf16 true"),
        ),
        (
            job(args={"fp16": True}).limits(**GPU).spec("model.dtype", "bfloat16"),
            ("spec.training.args.fp16 true", 'spec.model.dtype "bfloat16"'),
        ),
    ],
)
def test_different_values_are_refused_with_both_paths(
    builder: TrainingJobBuilder, paths: tuple[str, str]
) -> None:
    problem = refusal(builder)
    assert problem.reason == "InvalidSpec"
    for path in paths:
        assert path in problem.message


def test_accumulation_steps_give_the_batch_size_that_is_missing_and_must_fit_two_that_are_not() -> None:
    run = resolve(configured(train_micro_batch_size_per_gpu=4, gradient_accumulation_steps=3))
    assert run.training.global_batch_size == 12
    run = resolve(configured(job(globalBatchSize=24), gradient_accumulation_steps=3))
    assert run.training.per_device_train_batch_size == 8
    both = job(globalBatchSize=24, perDeviceTrainBatchSize=8)
    problem = refusal(configured(both, gradient_accumulation_steps=2))
    assert f"{ROOT}.gradient_accumulation_steps 2 doesn't fit" in problem.message


@pytest.mark.parametrize(("enabled", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_bf16_of_the_arguments_decides_the_type_that_the_model_leaves_open(enabled: bool, dtype: str) -> None:
    run = resolve(job(args={"bf16": enabled}).limits(**GPU))
    assert run.model is not None and run.model.dtype == dtype


def test_options_of_a_schedule_that_deepspeed_replaces_are_refused() -> None:
    builder = job(args={"lr_scheduler_kwargs": {"num_cycles": 2}})
    problem = refusal(configured(builder, scheduler={"type": "WarmupCosineLR"}))
    assert "spec.training.args.lr_scheduler_kwargs isn't read" in problem.message
