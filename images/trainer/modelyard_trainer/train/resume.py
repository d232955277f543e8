"""Where an attempt begins: at the newest checkpoint whose every byte is as written, over all attempts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from modelyard_agent import checkpoints
from modelyard_agent.checkpoints import Verified
from modelyard_agent.hashing import CheckpointError, UnknownHashError, count_threads
from modelyard_models.failure import Failure

from modelyard_trainer.context import Context
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
    """All ranks verify together, rank 0 converts; all get the same answer. None: begin at step 0.

    Raises Failure (CheckpointUnusable).
    """
    newest = find_newest(ctx, ranks) if ctx.run.checkpoint.resume == "Auto" else None
    if newest is None:
        return None
    found: Beginning | Failure | None = None
    if ranks.leads:
        try:
            found = _convert(ctx, newest, stage)
        except Failure as failure:  # the others must not wait for an answer
            found = failure
    answer: Beginning | Failure = ranks.share(found)
    if isinstance(answer, Failure):
        raise answer
    return answer


def find_newest(ctx: Context, ranks: Ranks) -> Verified | None:
    """The newest checkpoint whose every byte is as written, each rank having read its part of the bytes.

    What a single rank finds torn is passed over by all. Raises Failure (CheckpointUnusable).
    """
    # Nothing else runs yet; two even on one processor, so that one can read while the other hashes.
    threads = max(2, count_threads(ctx.local_world_size))
    candidates = checkpoints.walk_back(ctx.run_dir) if ranks.leads else iter(())
    while True:
        found: Verified | None = ranks.share(next(candidates, None))
        if found is None:
            return None
        faults = [fault for fault in ranks.gather(_find_fault(found, ranks, threads)) if fault is not None]
        if not faults:
            return found
        for fault in faults:
            if isinstance(fault, UnknownHashError):
                raise Failure(
                    "CheckpointUnusable",
                    f"{fault}; use the trainer image that saved it, or one with that package, or set "
                    "checkpoint.resume: Never",
                )
        if ranks.leads:
            _log.warning("passing over a torn checkpoint: %s", faults[0])


def _find_fault(found: Verified, ranks: Ranks, threads: int) -> Exception | None:
    try:
        checkpoints.verify_bytes(found, threads, ranks.rank, ranks.world_size)
    except (CheckpointError, UnknownHashError) as fault:  # the others must not wait for a verdict
        return fault
    return None


def _convert(ctx: Context, newest: Verified, stage: int) -> Beginning:
    saved_by = int(newest.manifest.get("worldSize") or ctx.world_size)
    _log.info("resuming from step %d of attempt %d (%s)", newest.step, newest.attempt, newest.folder)
    if not plan_conversion(saved_by, ctx.world_size, stage):
        return Beginning(newest.step, newest.folder)
    _log.info("converting the checkpoint of %d processes for %d", saved_by, ctx.world_size)
    target = ctx.run_dir / f"a{ctx.attempt}" / f"universal-{newest.step}"
    return Beginning(newest.step, newest.folder, convert(newest.folder, target, stage))
