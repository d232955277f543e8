"""The run config: the spec with every default resolved, as pods read it."""

from __future__ import annotations

import json
from typing import Any

from modelyard.api.profile import Profile
from modelyard.api.trainingjob import Resources, TrainingJobSpec
from modelyard.contract.run import CheckpointPolicy, GateInput, Identity, ModelInput, RunConfig, TrainingInput
from modelyard.training.spec import arguments, batch
from modelyard.training.spec.deepspeed import config as deepspeed
from modelyard.training.spec.deepspeed.agreement import take_over
from modelyard.training.spec.optimizers import check_optimizer
from modelyard.training.spec.schedulers import FOLLOWS_EVALUATIONS, check_scheduler
from modelyard.workloads.accelerators import count_accelerators
from modelyard.workloads.labels import INHERITED_LABELS
from modelyard.workloads.problem import Refused

DEFAULT_EPOCHS = 3.0
DEFAULT_LOST_SECONDS = 600
EVALUATIONS = 10
# Bytes. Annotations of one object have 256 KiB together.
LIMIT = 192 << 10


def pod_resources(spec: TrainingJobSpec, profile: Profile) -> Resources:
    """Resources of a train pod."""
    return spec.trainer.resources_per_node or profile.resources


def prepare_resources(spec: TrainingJobSpec, profile: Profile) -> Resources:
    """Resources of the pods that prepare data and read results back."""
    own = spec.data.resources if spec.data else None
    return own or profile.prepare_resources


def build_run_config(
    spec: TrainingJobSpec, profile: Profile, namespace: str, name: str, uid: str, labels: dict[str, str]
) -> RunConfig:
    """Resolves the spec. Raises Refused where it can't be carried out."""
    resources = pod_resources(spec, profile)
    num_proc = batch.count_processes(spec.trainer, resources)
    on_cpu = count_accelerators(resources) == 0
    deepspeed.check_config(spec)
    arguments.check_arguments(spec, on_cpu)
    spec = take_over(spec, spec.trainer.num_nodes * num_proc)
    return RunConfig(
        identity=Identity(
            namespace=namespace, name=name, uid=uid,
            labels={key: labels[key] for key in INHERITED_LABELS if key in labels},
        ),
        task=spec.task,
        model=ModelInput(**spec.model.model_dump()) if spec.model else None,
        # The pod's size makes no other data.
        data=spec.data.model_copy(update={"resources": None}).dump() if spec.data else None,
        training=_resolve_training(spec, num_proc, on_cpu),
        deepspeed=deepspeed.build_config(spec, on_cpu),
        checkpoint=_resolve_checkpoint(spec),
        gate=_resolve_gate(spec),
        output_name=spec.output.name or name,
        num_nodes=spec.trainer.num_nodes,
        num_proc_per_node=num_proc,
        gpus_per_node=count_accelerators(resources),
        builtin=spec.builtin,
    )  # fmt: skip


def write(config: RunConfig) -> str:
    """As pods read it. Raises Refused where an annotation of a pod has no room for it."""
    text = json.dumps(config.model_dump(mode="json", by_alias=True), sort_keys=True, ensure_ascii=False)
    size = len(text.encode())
    if size > LIMIT:
        raise Refused(
            "SpecTooLarge",
            f"With all defaults the spec takes {size >> 10} KiB, and pods can be told {LIMIT >> 10} KiB at most."
            " Shorten spec.deepspeed.config, spec.training.args or spec.data; long lists belong into the data.",
        )
    return text


def _resolve_training(spec: TrainingJobSpec, num_proc: int, on_cpu: bool) -> TrainingInput:
    training = spec.training
    checked = arguments.check_arguments(spec, on_cpu)
    choices = arguments.list_optimizers()
    check_optimizer(spec, checked, choices, deepspeed.read_stage(spec), on_cpu)
    if spec.builtin:
        check_scheduler(spec, checked)
    sizes = batch.divide(training, spec.trainer.num_nodes, num_proc)
    epochs = training.num_train_epochs
    if epochs is None and training.max_steps is None:
        epochs = DEFAULT_EPOCHS
    return TrainingInput(
        num_train_epochs=epochs,
        max_steps=training.max_steps,
        global_batch_size=training.global_batch_size,
        per_device_train_batch_size=sizes.per_device,
        gradient_accumulation_steps=sizes.accumulation,
        max_length=training.max_length,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.lr_scheduler_type,
        warmup_steps=training.warmup_steps,
        optim=training.optim,
        weight_decay=training.weight_decay,
        seed=training.seed,
        eval_steps=_resolve_eval_steps(spec),
        args=checked,
    )


def _resolve_eval_steps(spec: TrainingJobSpec) -> int | None:
    # With epochs only the trainer knows how many steps there are; it makes the same ten evaluations of them.
    training = spec.training
    needed = (spec.gate and spec.gate.early_stopping) or training.lr_scheduler_type == FOLLOWS_EVALUATIONS
    if training.eval_steps is None and needed and training.max_steps:
        return max(1, training.max_steps // EVALUATIONS)
    return training.eval_steps


def _resolve_checkpoint(spec: TrainingJobSpec) -> CheckpointPolicy:
    policy = spec.checkpoint
    lost = policy.every.max_lost_seconds
    if lost is None and policy.every.steps is None:
        lost = DEFAULT_LOST_SECONDS
    return CheckpointPolicy(
        every_steps=policy.every.steps, max_lost_seconds=lost, keep_last=policy.keep_last,
        keep_best=policy.keep_best, on_signal=policy.on_signal, resume=policy.resume,
    )  # fmt: skip


def _resolve_gate(spec: TrainingJobSpec) -> GateInput | None:
    if spec.gate is None:
        return None
    early: dict[str, Any] = {}
    if spec.gate.early_stopping:
        early = {
            "patience": spec.gate.early_stopping.patience,
            "min_delta": spec.gate.early_stopping.min_delta,
        }
    return GateInput(metric=spec.gate.metric, max=spec.gate.max, min=spec.gate.min, **early)
