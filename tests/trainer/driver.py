"""Runs many attempts in the processes of one torchrun, each in a fork: torch is imported once.

`python -m torch.distributed.run … -m tests.trainer.driver <attempts.json>`, a list of Attempts as objects.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any
from unittest.mock import patch

from modelyard_trainer.context import read_context
from modelyard_trainer.train.devices import Devices, set_up_process

from tests.trainer.warm import skip_proof

RANK = int(os.environ.get("RANK", "0"))


def main(path: Path) -> int:
    """Returns the exit code of the first attempt that ends otherwise than expected."""
    devices = set_up_process(RANK)
    import deepspeed  # noqa: F401 - what every fork needs, before there is a thread
    import sklearn.metrics  # noqa: F401
    from modelyard_trainer.train import session  # noqa: F401

    for attempt in json.loads(path.read_text()):
        child = os.fork()
        if child == 0:
            os._exit(_run(attempt, devices))
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code:
            print(f"{attempt['name']} ended with {code} on rank {RANK}", file=sys.stderr)
            return code
    return 0


def _run(attempt: dict[str, Any], devices: Devices) -> int:
    os.environ.update(attempt["env"], TORCHELASTIC_USE_AGENT_STORE="False", MASTER_PORT=str(attempt["port"]))
    if RANK == 0:  # the others ask it for what is there
        for source, target in attempt["moves"]:
            Path(source).rename(target)
    from modelyard_trainer.train import session
    from modelyard_trainer.train.trainer import RunTrainer

    finish, evaluate = session._finish, RunTrainer.evaluation_loop

    def measure_and_finish(made: session.Session) -> Any:
        measured = {}
        for batch in attempt["batches"]:
            made.trainer.args.per_device_eval_batch_size = batch
            for name in ("validation", "test"):
                measured[f"{name} by {batch}"] = made.trainer.measure(getattr(made.prepared.splits, name))
        told = {"measured": measured, "log": made.trainer.state.log_history}
        Path(attempt["told"]).with_suffix(f".{RANK}.json").write_text(json.dumps(told))
        return finish(made)

    def die_or_evaluate(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        if trainer.state.global_step == attempt["dies"]:
            os._exit(0)
        return evaluate(trainer, *args, **kwargs)

    # It has tests of its own; a process that loads torch for each of many attempts takes longer than all they do.
    skip_proof()
    with (
        patch.object(session, "_finish", measure_and_finish),
        patch.object(RunTrainer, "evaluation_loop", die_or_evaluate),
    ):
        try:
            session.train(read_context(), devices)
        except BaseException:
            traceback.print_exc()
            return 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
