"""Checkpoints for another number of processes: ZeRO cuts states by rank, the universal form doesn't."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from modelyard_models.failure import Failure

_COPIED = ("trainer_state.json", "scheduler.pt")
_TAIL = 500  # characters of the converter's output in a message


def plan_conversion(saved_by: int, world_size: int, stage: int) -> bool:
    """Whether a checkpoint of `saved_by` processes must be converted. Stage 0 cuts nothing."""
    return stage > 0 and saved_by != world_size


def convert(folder: Path, target: Path, stage: int) -> Path:
    """Writes the universal form of a checkpoint to `target`. Raises Failure (CheckpointUnusable).

    The converter of stages 1 and 2 injects what only Megatron's checkpoints have; it leaves the source as
    it is.
    """
    step = (folder / "latest").read_text().strip()
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    command = [
        sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal",
        "--input_folder", str(folder / step),
        "--output_folder", str(target / step),
        *(["--inject_missing_state"] if stage < 3 else []),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(target, ignore_errors=True)
        raise Failure(
            "CheckpointUnusable",
            f"{folder.name} was saved by another number of processes and can't be converted: "
            f"{done.stderr.strip()[-_TAIL:]}; go back to the former trainer.numNodes, or set "
            "checkpoint.resume: Never",
        )
    for name in _COPIED:
        if (folder / name).exists():
            shutil.copy2(folder / name, target / name)
    return target


def expect_universal(trainer: object, universal: bool) -> None:
    """Tells DeepSpeed, before it starts or while it runs, in which form the next checkpoint comes."""
    config = trainer.accelerator.state.deepspeed_plugin.hf_ds_config.config  # type: ignore[attr-defined]
    config.setdefault("checkpoint", {})["load_universal"] = universal
    engine = getattr(trainer, "deepspeed", None)
    if engine is not None:
        engine._config.load_universal_checkpoint = universal
