"""What the ranks say to each other outside of training: small things over gloo, never over the GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import deepspeed
import torch
import torch.distributed as dist


@dataclass
class Ranks:
    """All processes of the run. `group`: None where the default group is gloo."""

    rank: int
    world_size: int
    group: Any = None

    @classmethod
    def join(cls, rank: int, world_size: int, gpu: bool) -> Ranks:
        """To be called by all ranks, after the TrainingArguments, which set up torch.distributed."""
        if dist.is_initialized():
            # ZeRO-3 shards a model while it is made, which is before the Trainer makes DeepSpeed's own
            # sight of it.
            deepspeed.init_distributed(dist.get_backend(), auto_mpi_discovery=False, verbose=False)
        group = dist.new_group(backend="gloo") if gpu and world_size > 1 else None
        return cls(rank, world_size, group)

    @property
    def leads(self) -> bool:
        """Whether this is global rank 0."""
        return self.rank == 0

    def largest(self, value: int) -> int:
        """The largest of all ranks' values. One element: 0.1 ms between two processes of a machine."""
        if self.world_size == 1:
            return value
        cell = torch.tensor([value], dtype=torch.int32)
        dist.all_reduce(cell, op=dist.ReduceOp.MAX, group=self.group)
        return int(cell.item())

    def total(self, values: Any) -> Any:
        """The sum of all ranks' vectors, as float64 on the CPU; added in one order: the same bits on each."""
        values = values.detach().to("cpu", torch.float64)
        if self.world_size == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.world_size)]
        dist.all_gather(parts, values, group=self.group)
        return reduce(torch.add, parts)

    def share(self, value: Any) -> Any:
        """Rank 0's value, on all ranks."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order, on all ranks."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def wait(self) -> None:
        """Returns once all ranks have come here."""
        if self.world_size > 1:
            dist.barrier(group=self.group)
