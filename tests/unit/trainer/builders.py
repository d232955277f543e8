"""Run configs, contexts and small models for the trainer's tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from modelyard.contract.run import RunConfig
from modelyard_models.files import write_atomic
from modelyard_trainer.context import Context
from modelyard_trainer.preflight.base import check_length, examine_base
from modelyard_trainer.preflight.main import described_folder
from modelyard_trainer.prepare.tokenizer import train_tokenizer
from modelyard_trainer.tasks import find_task

UID = "0a1b2c3d-0000-4000-8000-000000000000"
RUN_PATH = "runs/team/job-0a1b2c3d"
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
BERT = {"model_type": "bert", "max_position_embeddings": 64, "vocab_size": 320, **SIZES}
LLAMA = {
    "model_type": "llama", "max_position_embeddings": 64, "vocab_size": 320, "num_key_value_heads": 2, **SIZES
}  # fmt: skip
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "many",
    "good",
    "bad",
    "words",
    "are",
    "said",
    "about",
    "it",
]


def make_run(**changes: Any) -> RunConfig:
    """A run config with small values; nested changes are given as training__seed=1."""
    run: dict[str, Any] = {
        "identity": {
            "namespace": "team",
            "name": "job",
            "uid": UID,
            "labels": {"modelyard.dev/team": "care"},
        },
        "task": "text-classification",
        "model": {"uri": "pvc://models/base"},
        "data": {"sources": [{"name": "rows", "uri": "pvc://data/rows.csv"}]},
        "training": {
            "num_train_epochs": None,
            "max_steps": 6,
            "global_batch_size": 8,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 1,
            "max_length": 32,
            "learning_rate": 1e-3,
            "lr_scheduler_type": "linear",
            "warmup_steps": 0,
            "optim": "adamw_torch",
            "weight_decay": 0.0,
            "seed": 42,
            "eval_steps": None,
            "args": {},
        },
        "deepspeed": {"zero_optimization": {"stage": 1}},
        "checkpoint": {
            "every_steps": None,
            "max_lost_seconds": 600,
            "keep_last": 2,
            "keep_best": 1,
            "on_signal": True,
            "resume": "Auto",
        },
        "gate": None,
        "output_name": "job",
        "num_nodes": 1,
        "num_proc_per_node": 1,
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = run
        for parent in parents:
            node = node[parent]
        node[last] = value
    return RunConfig.model_validate(run)


def make_context(root: Path, run: RunConfig, **changes: Any) -> Context:
    """A context below `root`; makes the folders of the sources."""
    (root / "sources" / "pvc" / "data").mkdir(parents=True, exist_ok=True)
    fields: dict[str, Any] = {
        "run": run,
        "storage": root / "storage",
        "run_dir": root / "storage" / RUN_PATH,
        "run_path": RUN_PATH,
        "runtime": root / "runtime",
        "sources": root / "sources",
    }
    return Context(**fields | changes)


def make_environment(ctx: Context, **more: str) -> dict[str, str]:
    """The environment of a process that shall find itself in `ctx`."""
    path = ctx.runtime / "run.json"
    write_atomic(path, ctx.run.model_dump_json(by_alias=True))
    env = {
        "MODELYARD_RUN_CONFIG": str(path),
        "MODELYARD_STORAGE": str(ctx.storage),
        "MODELYARD_RUN_DIR": ctx.run_path,
        "MODELYARD_RUNTIME_DIR": str(ctx.runtime),
        "MODELYARD_SOURCES": str(ctx.sources),
        "MODELYARD_ATTEMPT": str(ctx.attempt),
        "MODELYARD_AGENT_PORT": str(ctx.agent_port),
        **({"MODELYARD_DATASET": ctx.dataset} if ctx.dataset else {}),
        **({"MODELYARD_MODEL": ctx.model} if ctx.model else {}),
    }
    return env | more


def make_model_folder(folder: Path, **config: Any) -> Path:
    """A small model of random weights with a trained tokenizer."""
    base = {"model_type": "bert", "vocab_size": 320, "max_position_embeddings": 64, **SIZES} | config
    train_tokenizer([" ".join(WORDS)] * 20, base, folder, frames=True)
    save_weights(folder, "AutoModel")
    return folder


def save_weights(folder: Path, auto_class: str, **more: Any) -> None:
    """Writes the weights of a new model of the folder's configuration into it."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.from_pretrained(folder, **more)
    getattr(transformers, auto_class).from_config(config).save_pretrained(folder)


@contextmanager
def quick_preflight(run: RunConfig, folder: Path | None) -> Iterator[Any]:
    """The preflight of the model in this process: tests of data need not wait for DeepSpeed to be imported."""
    with described_folder(run, folder) as described:
        assert run.model is not None
        base = examine_base(run.model, described, find_task(run.task))
        check_length(base, run.training.max_length)
        yield SimpleNamespace(finish=lambda: base)


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    """A CSV file with the columns text and label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["text,label", *(f"{json.dumps(t, ensure_ascii=False)},{label}" for t, label in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def make_rows(count: int) -> list[tuple[str, str]]:
    """Different texts of two classes; the class shows in the text."""
    rows = []
    for i in range(count):
        mood = "good" if i % 2 else "bad"
        words = " ".join(WORDS[(i * 7 + k) % len(WORDS)] for k in range(3 + i % 5))
        rows.append((f"{mood} {mood} {words} number {i}", "positive" if i % 2 else "negative"))
    return rows
