"""What a process leaves for its agent: a result, or the one failure that no restart cures."""

from __future__ import annotations

import os
from pathlib import Path

from modelyard.contract import codes
from modelyard.contract.layout import MODEL_MANIFEST, RESULT
from modelyard.contract.report import TrainResult
from modelyard_models.failure import Failure
from modelyard_models.files import read_json, write_atomic

from modelyard_trainer.context import Context

_FINISHED = (codes.SUCCEEDED, codes.GATE_FAILED)


def find_finished(ctx: Context) -> TrainResult | None:
    """The result of an attempt that came to its end before its pods did, if its model is still there."""
    found = read_json(ctx.run_dir / RESULT)
    if not isinstance(found, dict) or found.get("outcome") not in _FINISHED:
        return None
    result = TrainResult.model_validate(found)
    if result.model is not None:
        manifest = read_json(ctx.storage / result.model.path / MODEL_MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("digest") != result.model.digest:
            return None  # its last checkpoint is exported again
    return result.model_copy(update={"attempt": ctx.attempt, "node": ctx.node})


def write_result(ctx: Context, result: TrainResult) -> None:
    """Leaves the result of this pod: node 0's is the attempt's, the others say how their pod ended.

    Called on all ranks; the first process of each pod writes.
    """
    if ctx.local_rank != 0:
        return
    if ctx.rank != 0:
        short = ("outcome", "attempt", "step", "max_steps", "resumed_from")
        result = TrainResult(node=ctx.node, **{name: getattr(result, name) for name in short})
    text = result.model_dump_json(by_alias=True, exclude_none=True)
    if ctx.rank == 0 and result.outcome in _FINISHED:
        # Before the agent does: whoever kills this pod now must not make the next attempt train again.
        write_atomic(ctx.run_dir / RESULT, text)
    write_atomic(ctx.runtime / codes.RESULT_FILE, text)


def write_fatal(runtime: Path, failure: Failure, rank: int | None = None) -> None:
    """Leaves a failure, unless another process of the pod did: the first is the cause of the others."""
    path = runtime / codes.FATAL_FILE
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temp.write_text(failure.report(rank).model_dump_json(by_alias=True, exclude_none=True), encoding="utf-8")
    try:
        os.link(temp, path)  # fails where a rename would overwrite
    except FileExistsError:
        pass
    finally:
        temp.unlink(missing_ok=True)
