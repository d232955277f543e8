"""Short real runs of many kinds in one process: python -m tests.trainer.matrix FOLDER < cases > results.

Reads a JSON list of cases ({"name", "changes"}) and prints a JSON object: per name the learning rates that were
logged, step by step, or the error. A case with "resume" saves at that step in passing; afterwards another run goes
on from there, and what it logged is "resumed".
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from modelyard_trainer.context import Context
from modelyard_trainer.train.devices import set_up_process

from tests.trainer.launching import prepare_run
from tests.trainer.warm import free_port
from tests.unit.trainer.builders import make_run


def main(root: Path) -> dict[str, Any]:
    """All cases on the same prepared data."""
    os.environ |= {
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    devices = set_up_process(1)
    logging.disable(logging.WARNING)
    ctx = prepare_run(root)
    results = {}
    for case in json.load(sys.stdin):
        try:
            results[case["name"]] = _run(ctx, devices, case)
        except Exception as error:
            results[case["name"]] = {"error": f"{type(error).__name__}: {error}"}
        shutil.rmtree(root / "storage/runs", ignore_errors=True)
    return results


def _run(ctx: Context, devices: Any, case: dict[str, Any]) -> dict[str, Any]:
    from modelyard_trainer.train.session import build
    from transformers import TrainerCallback
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    plain = ctx.run.model_dump(mode="json")
    run = make_run(**{"model": plain["model"], "data": plain["data"]} | case["changes"])
    ctx = dataclasses.replace(ctx, run=run)
    step = case.get("resume")

    class Save(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_save = state.global_step == step

    def begin() -> Any:
        unset_hf_deepspeed_config()  # a run has a process of its own, and finds no other's ZeRO-3
        return build(ctx, devices).trainer

    trainer = begin()
    trainer.add_callback(Save())
    trainer.train()
    result = _describe(trainer)
    if step:
        folder = ctx.run_dir / f"a0/checkpoint-{step}"
        resumed = begin()
        resumed.train(resume_from_checkpoint=str(folder))
        result["resumed"] = _describe(resumed)
    return result


def _describe(trainer: Any) -> dict[str, Any]:
    logs = trainer.state.log_history
    return {
        "rates": {e["step"]: e["learning_rate"] for e in logs if "learning_rate" in e},
        "losses": {e["step"]: e["loss"] for e in logs if "loss" in e},
        "stage": trainer.model_wrapped.zero_optimization_stage(),
        "dtype": str(next(trainer.model.parameters()).dtype),
        "mode": getattr(trainer.lr_scheduler, "mode", None),
        "state": trainer.lr_scheduler.state_dict().get("last_epoch"),
    }


if __name__ == "__main__":
    _out = os.dup(1)
    os.dup2(2, 1)  # libraries print, and the result must stand alone
    _text = json.dumps(main(Path(sys.argv[1])))
    os.write(_out, _text.encode())
