"""Attempts for the driver, and what plain transformers finds in the models that they export."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from modelyard.contract import codes
from modelyard.contract.report import TrainResult
from modelyard_trainer.context import Context
from modelyard_trainer.prepare.main import prepare
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from tests.trainer.warm import FIXED, free_port
from tests.unit.trainer.builders import (
    BERT,
    LLAMA,
    WORDS,
    make_context,
    make_environment,
    make_run,
    quick_preflight,
    write_rows,
)

TASKS = ("text-classification", "text-generation")
BATCHES = (1, 4, 16)
ROWS = 74
_LIMIT_SECONDS = 400


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One attempt of a run, on all ranks of a launch.

    `stops`: at its first step. `dies`: in the evaluation of that step, as if killed. `loses`: the last step
    of the attempt before, as if the pods had died before it was saved; what that attempt exported is kept
    under another name. `batches` are the batch sizes that both splits are measured with at its end.
    """

    ctx: Context
    number: int = 0
    stops: bool = False
    dies: int | None = None
    loses: int | None = None
    batches: tuple[int, ...] = ()

    def read(self, rank: int = 0) -> Any:
        """What a rank told before the model was exported: {measured: {split by batch: …}, log: […]}."""
        return json.loads(self._told.with_suffix(f".{rank}.json").read_text())

    @property
    def result(self) -> TrainResult:
        """The result that it left."""
        return TrainResult.model_validate_json((self._runtime / codes.RESULT_FILE).read_bytes())

    def describe(self) -> dict[str, Any]:
        """As the driver takes it."""
        ctx = dataclasses.replace(self.ctx, attempt=self.number, runtime=self._runtime)
        env = make_environment(ctx)
        if self.stops:
            (self._runtime / codes.STOP_FILE).touch()
        run, moves = self.ctx.run_dir, []
        if self.loses is not None:
            last = run / f"a{self.number - 1}" / f"checkpoint-{self.loses}"
            moves = [(run / "model", run / f"model-{self.number - 1}"), (last, run / "lost")]
        return {
            "name": f"attempt {self.number} of {self.ctx.storage}",
            "env": env,
            "port": free_port(),
            "told": str(self._told.with_suffix(".json")),
            "batches": self.batches,
            "dies": self.dies,
            "moves": [[str(source), str(target)] for source, target in moves],
        }

    @property
    def _runtime(self) -> Path:  # one of its own: a file there says whether it stops
        return self.ctx.storage / f"runtime-{self.number}"

    @property
    def _told(self) -> Path:
        return self.ctx.storage / f"told-{self.number}.json"


def prepare_attempts(root: Path, **changes: Any) -> Context:
    """A run over rows of three classes, from one word to forty; last batches are short for most sizes."""
    config = {**(LLAMA if changes.get("task") == "text-generation" else BERT), "initializer_range": 0.2}
    data = {
        "sources": [{"name": "rows", "uri": "pvc://data/rows.csv"}],
        "split": {"validation": 0.3, "test": 0.2, "seed": 3},
    }
    ctx = make_context(root, make_run(**{"model": {"config": config}, "data": data} | changes), agent_port=9)
    rows = []
    for index in range(ROWS):
        count = 1 + (index * index) % 40
        text = " ".join(WORDS[(index * 7 + place * place) % len(WORDS)] for place in range(count))
        rows.append((f"{text} {index}", ("a", "b", "b", "c", "a", "b", "a")[index % 7]))
    write_rows(root / "sources/pvc/data/rows.csv", rows)
    prepared = prepare(ctx, quick_preflight)
    return dataclasses.replace(
        ctx, dataset=f"datasets/{prepared.digest}", model=f"hub/{prepared.model_digest}"
    )


def run_attempts(folder: Path, processes: int, attempts: list[Attempt]) -> None:
    """Runs them one after the other under one torchrun; shows the output if one fails."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = [attempt.describe() for attempt in attempts]
    (folder / "attempts.json").write_text(json.dumps(listed))
    command = [
        sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--rdzv-backend=c10d",
        "--rdzv-endpoint=127.0.0.1:0", "-m", "tests.trainer.driver", str(folder / "attempts.json"),
    ]  # fmt: skip
    done = subprocess.run(
        command, env=os.environ | FIXED, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def read_rows(ctx: Context, split: str) -> list[dict[str, Any]]:
    """The prepared rows of a split."""
    rows: list[dict[str, Any]] = []
    for path in sorted((ctx.storage / str(ctx.dataset) / split).glob("shard-*.arrow")):
        rows += pa.ipc.open_file(str(path)).read_all().to_pylist()
    return rows


def load_exported(ctx: Context, name: str = "model", dtype: Any = torch.float64) -> Any:
    """The exported model as transformers loads it, without anything of Modelyard."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    kind = AutoModelForCausalLM if ctx.run.task == "text-generation" else AutoModelForSequenceClassification
    return kind.from_pretrained(ctx.run_dir / name, local_files_only=True, dtype=dtype).eval()


def find_losses(model: Any, rows: list[dict[str, Any]], labelled: bool) -> tuple[list[float], list[int]]:
    """The loss of each row or predicted token, and the class found for each row; one row at a time."""
    losses, found = [], []
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].double()
        if labelled:
            losses.append(-float(logits.log_softmax(-1)[row["labels"]]))
            found.append(int(logits.argmax()))
        else:
            chances = logits[:-1].log_softmax(-1)
            losses += (-chances.gather(-1, ids[0, 1:, None])).flatten().tolist()
    return losses, found


def expect_metrics(ctx: Context, model: Any, split: str) -> dict[str, float]:
    """The metrics of a split by scikit-learn and sums in float64."""
    rows = read_rows(ctx, split)
    labelled = ctx.run.task == "text-classification"
    losses, found = find_losses(model, rows, labelled)
    mean = math.fsum(losses) / len(losses)
    if not labelled:
        return {"eval_loss": mean, "eval_perplexity": math.exp(mean)}
    wanted = [row["labels"] for row in rows]
    precision, recall, f1, _ = precision_recall_fscore_support(
        wanted, found, average="macro", zero_division=0
    )
    return {
        "eval_loss": mean, "eval_accuracy": float(accuracy_score(wanted, found)), "eval_f1": float(f1),
        "eval_precision": float(precision), "eval_recall": float(recall),
    }  # fmt: skip
