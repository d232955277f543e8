"""How the global batch is divided: rows per process and pass, and accumulation steps."""

from __future__ import annotations

from dataclasses import dataclass

from modelyard.api.trainingjob import Resources, Trainer, Training
from modelyard.workloads.accelerators import count_accelerators
from modelyard.workloads.problem import Refused

DEFAULT_LARGEST = 32


@dataclass(frozen=True, slots=True)
class Batch:
    """globalBatchSize = world * per_device * accumulation."""

    world: int
    per_device: int
    accumulation: int


def count_processes(trainer: Trainer, resources: Resources) -> int:
    """Processes of one pod."""
    if trainer.num_proc_per_node != "auto":
        return int(trainer.num_proc_per_node)
    return max(1, count_accelerators(resources))


def divide(training: Training, num_nodes: int, num_proc: int) -> Batch:
    """Divides without remainder, or raises Refused with sizes that would do."""
    world = num_nodes * num_proc
    total = training.global_batch_size
    if total % world:
        below, above = total - total % world, total + world - total % world
        near = f"{above}" if below == 0 else f"{below} or {above}"
        raise Refused(
            "BatchSizeNotDivisible",
            f"spec.training.globalBatchSize {total} can't be divided among {world} processes "
            f"({num_nodes} nodes x {num_proc}); use {near}.",
        )
    share = total // world
    asked = training.per_device_train_batch_size
    if asked is None:
        per_device = next(size for size in range(min(DEFAULT_LARGEST, share), 0, -1) if share % size == 0)
        return Batch(world, per_device, share // per_device)
    if share % asked:
        lower = [size for size in range(min(asked, share), 0, -1) if share % size == 0]
        raise Refused(
            "BatchSizeNotDivisible",
            f"each of the {world} processes gets {share} rows of spec.training.globalBatchSize {total} per"
            f" step, which is no multiple of perDeviceTrainBatchSize {asked}; use {lower[0]} for"
            f" perDeviceTrainBatchSize, or a globalBatchSize that is a multiple of {world * asked}.",
        )
    return Batch(world, asked, share // asked)
