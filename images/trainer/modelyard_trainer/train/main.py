"""The train stage from end to end, for one rank."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from modelyard.contract import codes
from modelyard_models.failure import Failure

from modelyard_trainer.context import Context, read_context, read_runtime
from modelyard_trainer.train.explanation import explain
from modelyard_trainer.train.results import find_finished, write_fatal, write_result

_log = logging.getLogger("modelyard.train")


def main() -> int:
    """Trains; returns the exit code of the contract. What isn't understood is raised: torchrun restarts."""
    try:
        ctx = read_context()
    except Failure as failure:
        return _fail(read_runtime(), failure)
    finished = find_finished(ctx)
    if finished is not None:
        # This attempt was started because the result of the one before was lost on its way.
        write_result(ctx, finished)
        return codes.EXIT_OK
    try:
        _run(ctx)
    except Failure as failure:
        return _fail(ctx.runtime, failure, ctx.rank)
    except Exception as error:
        understood = explain(error)
        if understood is None:
            raise
        _log.exception("training failed")
        return _fail(ctx.runtime, understood, ctx.rank)
    return codes.EXIT_OK


def _run(ctx: Context) -> None:
    # torch takes seconds to import; what is wrong with the environment is said before.
    from torch.distributed.elastic.multiprocessing.errors import record

    from modelyard_trainer.train.devices import set_up_process

    devices = set_up_process(ctx.rank)
    from modelyard_trainer.train.session import train

    record(train)(ctx, devices)


def _fail(runtime: Path, failure: Failure, rank: int | None = None) -> int:
    print(failure, file=sys.stderr)
    write_fatal(runtime, failure, rank)
    return failure.exit_code
