"""The built-in trainer's rows per second beside those of a bare DeepSpeed script: same model, rows, batch and ranks."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
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
from tests.unit.trainer.builders import make_context, make_environment, make_run
from tests.unit.trainer.launching import running_agent

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = os.pathsep.join(str(ROOT / p) for p in ("operator", "images/trainer", "images/agent", "."))
RANKS, ROWS, LENGTH, WARM, MEASURED, ROUNDS = 2, 16, 48, 5, 25, 3
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


def torchrun(*arguments: str, **env: str) -> subprocess.Popen[str]:
    """Two ranks with one thread each."""
    command = [
        sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={RANKS}", "--rdzv-backend=c10d",
        "--rdzv-endpoint=127.0.0.1:0", *arguments,
    ]  # fmt: skip
    fixed = {"PYTHONPATH": PACKAGES, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu"}
    return subprocess.Popen(
        command,
        env={**os.environ, **fixed, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def measure_ours(ctx: Context, attempt: int) -> float:
    """Seconds of the measured steps of the built-in trainer under the agent."""
    ctx = dataclasses.replace(ctx, attempt=attempt)
    with running_agent(ctx) as (port, progress):
        times: dict[int, float] = {}
        ended = threading.Event()
        watcher = threading.Thread(target=_follow, args=(progress, times, ended))
        watcher.start()
        process = torchrun(
            "-m", "modelyard_trainer.train", **make_environment(dataclasses.replace(ctx, agent_port=port))
        )
        process.communicate(timeout=600)
        ended.set()
        watcher.join()
    if process.returncode:
        raise RuntimeError(f"the trainer ended with {process.returncode}")
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
    process = torchrun(script, *folders, str(ROWS), str(LENGTH), str(WARM), str(MEASURED))
    output, _ = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"the bare script ended with {process.returncode}")
    line = next(line for line in output.splitlines() if line.startswith('{"seconds"'))
    return float(json.loads(line)["seconds"])


def measure() -> list[dict[str, Any]]:
    """One row per round, alternated, and one with the medians."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        ctx = prepare_run(Path(scratch))
        for index in range(ROUNDS):
            bare, ours = measure_bare(ctx), measure_ours(ctx, index + 1)
            shutil.rmtree(ctx.run_dir)  # a finished run would not train again
            samples = RANKS * ROWS * MEASURED
            rows.append(_row(str(index + 1), samples / ours, samples / bare))
    ours, bare = (statistics.median(row[k] for row in rows) for k in ("modelyard rows/s", "bare rows/s"))
    return [*rows, _row("median", ours, bare)]


def _row(name: str, ours: float, bare: float) -> dict[str, Any]:
    return {
        "round": name, "modelyard rows/s": round(ours, 1), "bare rows/s": round(bare, 1), "ratio": round(ours / bare, 3)
    }  # fmt: skip
