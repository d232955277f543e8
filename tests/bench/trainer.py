"""The built-in trainer's rows per second beside those of a bare DeepSpeed script: same model, rows, batch and ranks."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from modelyard_agent.progress import Progress
from modelyard_trainer.context import Context
from modelyard_trainer.prepare.main import prepare

from examples.demo.inputs import MODEL, TWEETS, prepare_inputs
from tests.bench.sections import Rows
from tests.trainer.launching import running_agent
from tests.unit.trainer.builders import make_context, make_environment, make_run

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = os.pathsep.join(
    str(ROOT / p) for p in ("operator", "images/models", "images/trainer", "images/agent", ".")
)
RANKS, ROWS, LENGTH, WARM, MEASURED, ROUNDS = 2, 16, 48, 5, 25, 3
LIMIT_SECONDS = 600  # for one launch
JOINED = 12  # tweets in a row


def write_rows(tweets: Path, target: Path) -> None:
    """Rows of several tweets each, all longer than max_length: with rows of one length a step is as much work in
    whatever order they come.
    """
    with (
        tweets.open(newline="", encoding="utf-8") as source,
        target.open("w", newline="", encoding="utf-8") as out,
    ):
        rows = list(csv.DictReader(source))
        writer = csv.DictWriter(out, ["text", "label"])
        writer.writeheader()
        for start in range(0, len(rows) - JOINED, 2):
            text = " ".join(row["text"] for row in rows[start : start + JOINED])
            writer.writerow({"text": text, "label": rows[start]["label"]})


def prepare_run(root: Path) -> Context:
    """MiniLM and long rows, prepared; a run that does nothing but train."""
    inputs = prepare_inputs()
    write_rows(inputs / TWEETS, root / "rows.csv")
    run = make_run(
        model={"uri": f"pvc://inputs/{MODEL}"},
        data={
            "sources": [{"name": "tweets", "uri": "pvc://rows/rows.csv"}],
            "split": {"validation": 0, "test": 0},
        },
        training__max_steps=WARM + MEASURED + 1,
        training__global_batch_size=RANKS * ROWS,
        training__per_device_train_batch_size=ROWS,
        training__max_length=LENGTH,
        training__learning_rate=1e-4,
        training__args={"logging_steps": 1},
        checkpoint__max_lost_seconds=86_400,
        num_proc_per_node=RANKS,
    )
    ctx = make_context(root, run)
    (root / "sources/pvc/inputs").symlink_to(inputs)
    (root / "sources/pvc/rows").symlink_to(root)
    done = prepare(ctx)
    return dataclasses.replace(ctx, dataset=f"datasets/{done.digest}", model=f"hub/{done.model_digest}")


def torchrun(*arguments: str, **env: str) -> str:
    """Two ranks with one thread each; what they printed.

    Raises RuntimeError with their last words when they fail or take longer than LIMIT_SECONDS; none goes on running.
    """
    command = [
        sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={RANKS}", "--rdzv-backend=c10d",
        "--rdzv-endpoint=127.0.0.1:0", *arguments,
    ]  # fmt: skip
    fixed = {"PYTHONPATH": PACKAGES, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu"}
    with tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen(
            command,
            env={**os.environ, **fixed, **env},
            stdout=subprocess.PIPE,
            stderr=words,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=LIMIT_SECONDS)
            ended = f"ended with {process.returncode}"
        except subprocess.TimeoutExpired:
            ended = f"was not done after {LIMIT_SECONDS} s"
        finally:
            # torchrun's ranks outlive a torchrun that is killed, and would be measured with what comes next.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        if process.returncode:
            words.seek(0)
            raise RuntimeError(f"{' '.join(arguments[:2])} {ended}; it ends: {words.read()[-2000:]}")
    return output


def measure_ours(ctx: Context, attempt: int) -> float:
    """Seconds of the measured steps of the built-in trainer under the agent."""
    ctx = dataclasses.replace(ctx, attempt=attempt)
    with running_agent(ctx) as (port, progress):
        times: dict[int, float] = {}
        ended = threading.Event()
        watcher = threading.Thread(target=_follow, args=(progress, times, ended))
        watcher.start()
        try:
            torchrun(
                "-m", "modelyard_trainer.train", **make_environment(dataclasses.replace(ctx, agent_port=port))
            )
        finally:
            ended.set()
            watcher.join()
    # A report may be skipped when two steps come close together; the steps that were seen bound the interval.
    first, last = min(s for s in times if s >= WARM), max(s for s in times if s <= WARM + MEASURED)
    return (times[last] - times[first]) / (last - first) * MEASURED


def _follow(progress: Progress, times: dict[int, float], ended: threading.Event) -> None:
    while not ended.is_set():
        times.setdefault(int(progress.snapshot().get("step") or 0), time.perf_counter())
        time.sleep(0.005)


def measure_bare(ctx: Context) -> float:
    """Seconds of the same steps of the bare script."""
    assert ctx.model and ctx.dataset
    script = str(Path(__file__).with_name("bare_deepspeed.py"))
    folders = [str(ctx.storage / ctx.model), str(ctx.storage / ctx.dataset / "train")]
    output = torchrun(script, *folders, str(ROWS), str(LENGTH), str(WARM), str(MEASURED))
    line = next(line for line in output.splitlines() if line.startswith('{"seconds"'))
    return float(json.loads(line)["seconds"])


def measure(rows: Rows) -> None:
    """One row per round, alternated, and one with the medians of those that succeeded."""
    with tempfile.TemporaryDirectory() as scratch:
        ctx = prepare_run(Path(scratch))
        for index in range(ROUNDS):
            with rows.measure(round=str(index + 1)) as row:
                try:
                    bare, ours = measure_bare(ctx), measure_ours(ctx, index + 1)
                finally:
                    shutil.rmtree(ctx.run_dir, ignore_errors=True)  # a finished run would not train again
                samples = RANKS * ROWS * MEASURED
                row |= _speeds(samples / ours, samples / bare)
    good = [row for row in rows if "error" not in row]
    if good:
        ours, bare = (statistics.median(row[k] for row in good) for k in ("modelyard rows/s", "bare rows/s"))
        rows.append({"round": "median", **_speeds(ours, bare)})


def _speeds(ours: float, bare: float) -> dict[str, Any]:
    return {
        "modelyard rows/s": round(ours, 1), "bare rows/s": round(bare, 1), "ratio": round(ours / bare, 3)
    }  # fmt: skip
