"""spec.training.args: TrainingArguments by name, checked before a pod is asked for."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic.alias_generators import to_camel

from modelyard.api.trainingjob import Training, TrainingJobSpec
from modelyard.training.spec.bounds import check_bounds
from modelyard.workloads.problem import Refused

COMPILE_BACKENDS = ("eager", "aot_eager")  # that torch runs without a compiler

# transformers 5 -> what to write instead.
REMOVED = {
    "evaluation_strategy": "set spec.training.evalSteps",
    "warmup_ratio": "set spec.training.warmupSteps to a value below 1, which is a fraction of all steps",
    "overwrite_output_dir": "leave it out; every attempt has its own folder",
    "no_cuda": "leave it out; the pod trains on the CPU when it has no GPU",
    "save_safetensors": "leave it out; models are always saved as safetensors",
    "logging_dir": "leave it out; logs are kept in the job's storage",
    "group_by_length": "use train_sampling_strategy: group_by_length",
    "push_to_hub_token": "leave it out; the model stays in spec.storage",
    "use_ipex": "leave it out",
    "jit_mode_eval": "leave it out",
    "fp16_backend": "leave it out",
    "half_precision_backend": "leave it out",
    "past_index": "leave it out",
    "tpu_metrics_debug": "leave it out",
    "ray_scope": "leave it out",
    "mp_parameters": "leave it out",
    "include_inputs_for_metrics": "leave it out; evaluation keeps sums, and no inputs",
}
_TRAINING_FIELDS = frozenset(Training.model_fields) - {"args"}
_STORED = "checkpoints, results and logs lie where the operator looks for them"
_CHECKPOINT = "set spec.checkpoint instead"
_GATE = "set spec.gate instead"
_SUMS = "evaluation keeps sums, and no predictions"
_EVAL_DTYPE = "evaluation computes in the type of training; set spec.model.dtype instead"
_HUB = "the model stays in spec.storage"
_DATA_STATE = "a resumed run would not see the same rows"
_METRICS = "what is measured is the task's own"
_LOGS = "progress and metrics go to the agent"
_NOT_DDP = "DeepSpeed reduces the gradients; see zero_optimization in spec.deepspeed.config"
_ROWS = "every row counts, in the steps of a run and in its evaluations"
OWNED = {
    "output_dir": _STORED,
    "run_name": "set spec.output.name instead",
    "resume_from_checkpoint": _CHECKPOINT,
    "save_strategy": _CHECKPOINT,
    "save_steps": _CHECKPOINT,
    "save_total_limit": "set spec.checkpoint.keepLast instead",
    "save_only_model": "a run could not be resumed",
    "save_on_each_node": _STORED,
    "enable_jit_checkpoint": _CHECKPOINT,
    "restore_callback_states_from_checkpoint": _CHECKPOINT,
    "ignore_data_skip": _DATA_STATE,
    "eval_strategy": "set spec.training.evalSteps instead",
    "load_best_model_at_end": _GATE,
    "metric_for_best_model": _GATE,
    "greater_is_better": _GATE,
    "prediction_loss_only": _SUMS,
    "batch_eval_metrics": _SUMS,
    "eval_accumulation_steps": _SUMS,
    "eval_do_concat_batches": _SUMS,
    "eval_use_gather_object": _SUMS,
    "include_for_metrics": _SUMS,
    "bf16_full_eval": _EVAL_DTYPE,
    "fp16_full_eval": _EVAL_DTYPE,
    "average_tokens_across_devices": "the loss is the mean over the whole batch, on any number of processes",
    "deepspeed": "set spec.deepspeed instead",
    "fsdp": "set spec.deepspeed instead",
    "fsdp_config": "set spec.deepspeed instead",
    "parallelism_config": "set spec.trainer and spec.deepspeed instead",
    "local_rank": "torchrun sets it",
    "use_cpu": "set spec.trainer.resourcesPerNode instead",
    "gradient_accumulation_steps": (
        "it follows from spec.training.globalBatchSize and perDeviceTrainBatchSize"
    ),
    "auto_find_batch_size": "it would change spec.training.globalBatchSize behind your back",
    "report_to": _LOGS,
    "project": _LOGS,
    "trackio_space_id": _LOGS,
    "trackio_bucket_id": _LOGS,
    "trackio_static_space_id": _LOGS,
    "accelerator_config": "it would change spec.training.globalBatchSize and the order of rows",
    "data_seed": "set spec.training.seed instead",
    "dataloader_drop_last": _ROWS,
    "dataloader_pin_memory": "memory is pinned where there is a GPU",
    "remove_unused_columns": "the prepared data has no others",
    "length_column_name": "the prepared data knows its lengths",
    "label_names": _METRICS,
    "debug": "its check fails on these models; a loss that is not a number ends the run by itself",
    "ddp_backend": "it is gloo on CPUs and nccl on GPUs",
    "ddp_broadcast_buffers": _NOT_DDP,
    "ddp_bucket_cap_mb": _NOT_DDP,
    "ddp_find_unused_parameters": _NOT_DDP,
    "ddp_static_graph": _NOT_DDP,
    "logging_nan_inf_filter": "a loss that is not a number must be seen",
    "disable_tqdm": "there is no terminal",
    "push_to_hub": _HUB,
    "hub_token": _HUB,
    "hub_private_repo": _HUB,
    "hub_model_id": _HUB,
    "hub_strategy": _HUB,
    "hub_always_push": _HUB,
    "hub_revision": _HUB,
    "do_train": "the job trains",
    "do_eval": "set spec.training.evalSteps instead",
    "do_predict": "set spec.data.split.test instead",
}
_KINDS: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "list": (list,),
    "dict": (dict,),
}


@cache
def known_arguments() -> Mapping[str, Mapping[str, Any]]:
    """Every field of TrainingArguments: its kinds (bool, int, …), and its choices where there are few."""
    text = files("modelyard.training.spec").joinpath("arguments.json").read_text(encoding="utf-8")
    known: Mapping[str, Mapping[str, Any]] = json.loads(text)["arguments"]
    return known


def to_snake(name: str) -> str:
    """perDeviceEvalBatchSize -> per_device_eval_batch_size. Leaves snake_case as it is."""
    for known in known_arguments():  # adam_beta1, fp16 …: the reverse of to_camel isn't unique
        if name == to_camel(known):
            return known
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def check_arguments(spec: TrainingJobSpec, on_cpu: bool) -> dict[str, Any]:
    """The arguments in snake_case. Raises Refused with the nearest name, the replacement, or the reason why
    not.
    """
    checked: dict[str, Any] = {}
    names: dict[str, str] = {}
    for name, value in spec.training.args.items():
        known = to_snake(name)
        where = f"spec.training.args.{name}"
        _check_name(known, where)
        if on_cpu and known == "fp16" and value:
            raise Refused(
                "ReservedArgument", f"{where}: a CPU can't train in fp16; use bf16, or ask for a GPU."
            )
        _check_value(known, value, where)
        if known in checked:
            raise Refused(
                "InvalidArgument", f"{where} is given twice, in snake_case and in camelCase; keep one."
            )
        checked[known], names[known] = value, name
    check_bounds(checked, names)
    if spec.builtin:
        _check_image(checked, names, on_cpu, own_image=spec.trainer.image is not None)
    return checked


def list_optimizers() -> tuple[str, ...]:
    """All that transformers knows by name."""
    return tuple(known_arguments()["optim"]["choices"])


def _check_image(args: dict[str, Any], names: dict[str, str], on_cpu: bool, own_image: bool) -> None:
    """What needs a package, a compiler or a GPU."""
    if on_cpu and args.get("tf32"):
        raise Refused(
            "InvalidArgument",
            f"spec.training.args.{names['tf32']}: a CPU has no TF32; remove it, or ask for a GPU.",
        )
    if own_image:
        return
    if args.get("use_liger_kernel"):
        raise Refused(
            "InvalidArgument",
            f"spec.training.args.{names['use_liger_kernel']} needs the package liger-kernel, which the trainer's"
            " image doesn't have: remove it, or set spec.trainer.image to an image with it.",
        )
    compile_names = [
        n for n in ("torch_compile", "torch_compile_mode", "torch_compile_backend") if args.get(n)
    ]
    backend = args.get("torch_compile_backend")
    if compile_names and (backend not in COMPILE_BACKENDS or args.get("torch_compile_mode")):
        raise Refused(
            "InvalidArgument",
            f"spec.training.args.{names[compile_names[0]]} compiles with inductor, for which the trainer's image has"
            f" no compiler: remove it, set spec.trainer.image to an image with one, or use torch_compile_backend"
            f" {' or '.join(COMPILE_BACKENDS)} without torch_compile_mode.",
        )


def _check_name(known: str, where: str) -> None:
    if known in REMOVED:
        raise Refused("UnknownArgument", f"{where} was removed from transformers: {REMOVED[known]}.")
    if known in _TRAINING_FIELDS:
        raise Refused("ReservedArgument", f"{where}: set spec.training.{to_camel(known)} instead.")
    if known in OWNED:
        raise Refused("ReservedArgument", f"{where} is the operator's: {OWNED[known]}. Remove it.")
    if known not in known_arguments():
        near = _nearest(known, (*known_arguments(), *_TRAINING_FIELDS))
        raise Refused("UnknownArgument", f"{where} is no argument of transformers' TrainingArguments{near}.")


def _check_value(known: str, value: Any, where: str) -> None:
    accepted = known_arguments()[known]
    kinds: list[str] = accepted["kinds"]
    if value is None:
        return
    fits = any(isinstance(value, _KINDS[kind]) for kind in kinds)
    if isinstance(value, bool):  # bool is an int to Python
        fits = "bool" in kinds
    elif isinstance(value, float) and value.is_integer() and "int" in kinds:
        fits = True  # 4.0, as JSON may write 4
    if not fits:
        raise Refused(
            "InvalidArgument", f"{where} must be {' or '.join(kinds)}, not {json.dumps(value)[:80]}."
        )
    choices = accepted.get("choices")
    if choices and isinstance(value, str) and value not in choices:
        raise Refused("InvalidArgument", f"{where} must be one of {', '.join(choices)}, not {value!r}.")


def _nearest(name: str, names: Any) -> str:
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""
