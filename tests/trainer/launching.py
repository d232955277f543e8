"""Real training processes for tests, several at once, with a real agent's server beside them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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

from tests.trainer.warm import FIXED, Launcher
from tests.unit.trainer.builders import (
    BERT,
    LLAMA,
    RUN_PATH,
    make_context,
    make_environment,
    make_rows,
    make_run,
    quick_preflight,
    write_rows,
)

_LIMIT_SECONDS = 240
_LAUNCHER = Launcher()


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
    proves: bool = False,
    nodes: int = 1,
    **environment: str,
) -> Ended:
    """Runs one attempt to its end. `stop`: it finds the request to stop at its first step. `proves`: what it exports
    is loaded back, as it always is in a pod; that takes a process that imports torch anew. `nodes`: on this one
    machine, each with an agent of its own.
    """
    ctx = dataclasses.replace(ctx, attempt=attempt)
    for name in (codes.RESULT_FILE, codes.FATAL_FILE, codes.STOP_FILE):
        (ctx.runtime / name).unlink(missing_ok=True)
    ctx.runtime.mkdir(parents=True, exist_ok=True)
    if stop:
        (ctx.runtime / codes.STOP_FILE).touch()
    output = ctx.runtime / "output.txt"
    output.write_text("")
    with ExitStack() as stack:
        agents = [stack.enter_context(running_agent(ctx)) for _ in range(nodes)]
        env = os.environ | FIXED | make_environment(ctx) | environment
        pods = []
        for node, (port, _) in enumerate(agents):
            runtime = ctx.runtime / f"node-{node}" if node else ctx.runtime
            runtime.mkdir(exist_ok=True)
            pods.append({codes.ENV_AGENT_PORT: str(port), codes.ENV_RUNTIME_DIR: str(runtime)})
        code = _LAUNCHER.run(module, processes, env, output, _LIMIT_SECONDS, proves, pods)
        told = agents[0][1].snapshot()
    return Ended(
        code,
        output.read_text(errors="replace"),
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
