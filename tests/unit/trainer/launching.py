"""Real training processes for tests: torchrun on this machine, with a real agent's server beside it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelyard.contract import codes
from modelyard.contract.report import FailureReport, TrainResult
from modelyard_agent import checkpoints
from modelyard_agent.progress import Progress
from modelyard_agent.server import Server
from modelyard_agent.verifier import Verifier
from modelyard_trainer.context import Context
from modelyard_trainer.prepare.main import prepare

from tests.unit.trainer.builders import (
    RUN_PATH,
    SIZES,
    make_context,
    make_environment,
    make_rows,
    make_run,
    quick_preflight,
    write_rows,
)

ROOT = Path(__file__).parents[3]
_LIMIT_SECONDS = 120
BERT = {"model_type": "bert", "max_position_embeddings": 64, "vocab_size": 320, **SIZES}
LLAMA = {
    "model_type": "llama", "max_position_embeddings": 64, "vocab_size": 320, "num_key_value_heads": 2, **SIZES
}  # fmt: skip


@dataclasses.dataclass
class Ended:
    """How a launch ended."""

    code: int
    output: str
    result: TrainResult | None
    fatal: FailureReport | None
    progress: dict[str, Any]


def prepare_run(root: Path, **changes: Any) -> Context:
    """A context with prepared data: 120 rows of two classes, a small BERT or Llama from scratch."""
    config = LLAMA if changes.get("task") == "text-generation" else BERT
    data = {
        "sources": [{"name": "rows", "uri": "pvc://data/rows.csv"}],
        "split": {"validation": 0.2, "test": 0.1, "seed": 3},
    }
    ctx = make_context(root, make_run(**{"model": {"config": config}, "data": data} | changes))
    write_rows(root / "sources/pvc/data/rows.csv", make_rows(120))
    prepared = prepare(ctx, quick_preflight)
    return dataclasses.replace(
        ctx, dataset=f"datasets/{prepared.digest}", model=f"hub/{prepared.model_digest}"
    )


@contextmanager
def running_agent(ctx: Context) -> Iterator[tuple[int, Progress]]:
    """The agent's server and verifier, as in a pod; gives its port."""
    progress = Progress(ctx.attempt)
    policy = checkpoints.read_policy(ctx.run.model_dump(mode="json", by_alias=True))
    verifier = Verifier(ctx.storage, RUN_PATH, ctx.attempt, policy, progress)
    server = Server(0, progress, verifier, "token")
    server.start()
    verifier.start()
    try:
        yield server.port, progress
    finally:
        verifier.finish(30)
        server.stop()


def launch(
    ctx: Context,
    processes: int = 2,
    attempt: int = 0,
    stop: bool = False,
    module: str = "modelyard_trainer.train",
    **environment: str,
) -> Ended:
    """Runs one attempt to its end. `stop`: it finds the request to stop at its first step."""
    ctx = dataclasses.replace(ctx, attempt=attempt)
    for name in (codes.RESULT_FILE, codes.FATAL_FILE, codes.STOP_FILE):
        (ctx.runtime / name).unlink(missing_ok=True)
    if stop:
        ctx.runtime.mkdir(parents=True, exist_ok=True)
        (ctx.runtime / codes.STOP_FILE).touch()
    with running_agent(ctx) as (port, progress):
        env = os.environ | make_environment(dataclasses.replace(ctx, agent_port=port))
        env |= {
            "PYTHONPATH": os.pathsep.join(
                str(ROOT / p) for p in ("operator", "images/trainer", "images/agent", ".")
            ),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONWARNINGS": "ignore",
            **environment,
        }
        command = [
            sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--rdzv-backend=c10d",
            "--rdzv-endpoint=127.0.0.1:0", "-m", module,
        ]  # fmt: skip
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False
        )
        told = progress.snapshot()
    return Ended(
        done.returncode,
        done.stdout + done.stderr,
        _read(ctx.runtime / codes.RESULT_FILE, TrainResult),
        _read(ctx.runtime / codes.FATAL_FILE, FailureReport),
        told,
    )


def succeed(ended: Ended) -> TrainResult:
    """The result of a launch that left one; shows the output of one that didn't."""
    assert ended.code == 0 and ended.result is not None, ended.output[-4000:]
    return ended.result


def fail(ended: Ended) -> FailureReport:
    """The fatal failure of a launch."""
    assert ended.code != 0 and ended.fatal is not None, ended.output[-4000:]
    return ended.fatal


def losses(ctx: Context, attempt: int, step: int) -> dict[int, float]:
    """The loss that was logged at each step, as a checkpoint remembers it."""
    path = ctx.run_dir / f"a{attempt}" / f"checkpoint-{step}" / "trainer_state.json"
    return {e["step"]: e["loss"] for e in json.loads(path.read_text())["log_history"] if "loss" in e}


def _read(path: Path, kind: Any) -> Any:
    return kind.model_validate_json(path.read_bytes()) if path.exists() else None
