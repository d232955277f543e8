"""Where an attempt begins: at the newest checkpoint whose every byte is as written, over all attempts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from modelyard_agent import checkpoints

from modelyard_trainer.context import Context
from modelyard_trainer.failure import Failure
from modelyard_trainer.train.ranks import Ranks
from modelyard_trainer.train.universal import convert, plan_conversion

_log = logging.getLogger("modelyard.train")


@dataclass(frozen=True, slots=True)
class Beginning:
    """A checkpoint to go on from. `universal`: the same for another world size, to be deleted after."""

    step: int
    folder: Path
    universal: Path | None = None

    @property
    def source(self) -> Path:
        """What the Trainer loads."""
        return self.universal or self.folder


def find_beginning(ctx: Context, ranks: Ranks, stage: int) -> Beginning | None:
    """Rank 0 looks, verifies and converts; all ranks get the same answer. None: begin at step 0.

    Raises Failure (CheckpointUnusable).
    """
    found: Beginning | Failure | None = None
    if ranks.leads and ctx.run.checkpoint.resume == "Auto":
        try:
            found = _look(ctx, stage)
        except Failure as failure:  # the others must not wait for an answer
            found = failure
    answer = ranks.share(found)
    if isinstance(answer, Failure):
        raise answer
    beginning: Beginning | None = answer
    return beginning


def _look(ctx: Context, stage: int) -> Beginning | None:
    newest = checkpoints.newest_verified(ctx.run_dir)
    if newest is None:
        return None
    saved_by = int(newest.manifest.get("worldSize") or ctx.world_size)
    _log.info("resuming from step %d of attempt %d (%s)", newest.step, newest.attempt, newest.folder)
    if not plan_conversion(saved_by, ctx.world_size, stage):
        return Beginning(newest.step, newest.folder)
    _log.info("converting the checkpoint of %d processes for %d", saved_by, ctx.world_size)
    target = ctx.run_dir / f"a{ctx.attempt}" / f"universal-{newest.step}"
    return Beginning(newest.step, newest.folder, convert(newest.folder, target, stage))
