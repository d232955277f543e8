"""One pass over a split by all ranks, in which each row counts exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from modelyard_trainer.train.losses import read_logits
from modelyard_trainer.train.metrics import Sums
from modelyard_trainer.train.ranks import Ranks


class Rounds(Sampler):  # type: ignore[misc]
    """The batches of one rank: as many as every other rank has, since under ZeRO-3 a forward pass is
    everybody's.

    In each round the ranks take their batches one after the other; where there are no rows left for a rank,
    it takes row 0 again, which `counted` says.
    """

    def __init__(self, rows: int, batch: int, ranks: Ranks) -> None:
        self._rows = rows
        self._batch = batch
        self._ranks = ranks

    def __len__(self) -> int:
        return -(-self._rows // (self._batch * self._ranks.world_size))

    def __iter__(self) -> Iterator[list[int]]:
        for index in range(len(self)):
            first = self._first(index)
            yield list(range(first, first + self.counted(index))) or [0]

    def counted(self, index: int) -> int:
        """How many rows of a batch count: all of them, or none."""
        return max(0, min(self._batch, self._rows - self._first(index)))

    def _first(self, index: int) -> int:
        return (index * self._ranks.world_size + self._ranks.rank) * self._batch


def make_loader(dataset: Any, batch: int, ranks: Ranks, collator: Any, args: Any) -> Any:
    """Loads a split for `measure`, in batches of so many rows and by as many workers as training has."""
    return DataLoader(
        dataset,
        batch_sampler=Rounds(len(dataset), batch, ranks),
        collate_fn=collator,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        multiprocessing_context=args.dataloader_multiprocessing_context,
        prefetch_factor=args.dataloader_prefetch_factor,
    )


def measure(
    model: Any, loader: Any, sums: Sums, prepare: Callable[[Any], Any], on_batch: Callable[[], None]
) -> None:
    """Adds a split to `sums`. `prepare` moves a batch to the model's device; `on_batch` is called after each.

    The model isn't given the labels: losses are ours, in float32, and plain: without what a model or a
    run adds to the loss that it minimises.
    """
    rounds: Rounds = loader.batch_sampler
    for index, batch in enumerate(loader):
        inputs = prepare(batch)
        labels = inputs.pop("labels")
        with torch.no_grad():
            logits = read_logits(model(**inputs))
            counted = rounds.counted(index)
            sums.add(logits[:counted], labels[:counted])
        on_batch()
