"""A small model and a folder that was exported from it, with the reference that proves it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from modelyard_trainer.prepare.tokenizer import train_tokenizer
from modelyard_trainer.tasks import TASKS, Task
from modelyard_trainer.train.reference import ask_model, take_rows

from tests.unit.trainer.builders import BERT, LLAMA, WORDS

CLASSES, LANGUAGE = TASKS["text-classification"], TASKS["text-generation"]


class Engine:
    """As much of a Trainer as the proof looks at."""

    def __init__(self, model: Any) -> None:
        self.model = self.model_wrapped = model
        self.args = SimpleNamespace(device="cpu")


def make_tokenizer(folder: Path, config: dict[str, Any], task: str = "text-classification") -> Any:
    from transformers import AutoTokenizer

    train_tokenizer([" ".join(WORDS)] * 20, config, folder, frames=TASKS[task].frames)
    return AutoTokenizer.from_pretrained(folder)


def make_model(config: dict[str, Any], task: Task, folder: Path, **more: Any) -> Any:
    import transformers
    from transformers import AutoConfig

    torch.manual_seed(3)
    about = AutoConfig.from_pretrained(folder, **({"num_labels": 3} if task.labelled else {}) | more)
    return getattr(transformers, task.auto_class).from_config(about)


def write_model(root: Path, task: Task = CLASSES, **config: Any) -> tuple[Any, Path]:
    """A model, and a folder that was exported from it, with its reference."""
    base = (BERT if task.labelled else LLAMA) | config
    tokenizer = make_tokenizer(root / "base", base, task.name)
    model = make_model(base, task, root / "base")
    rows = take_rows(Rows(tokenizer([" ".join(WORDS[i : i + 5]) for i in range(12)])["input_ids"]), tokenizer)
    folder = root / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    reference = ask_model(Engine(model), task, rows, "validation")
    (folder / "reference.json").write_text(reference.model_dump_json(by_alias=True))
    return model, folder


class Rows:
    """A prepared split."""

    def __init__(self, rows: list[list[int]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"input_ids": np.asarray(self._rows[row], np.int32)}
