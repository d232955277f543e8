"""Real models to serve, made once and kept in the cache: a classifier of tweets, sentence embeddings, a chat model."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from examples.demo.inputs import MODEL, TWEETS, prepare_inputs
from examples.demo.shell import CACHE
from tests.server.chat_model import prepare_chat_model

__all__ = ["prepare_chat_model", "prepare_classifier", "prepare_embedder", "prepare_int8", "tweets"]

# As sentence-transformers writes a model whose vectors are means of unit length.
_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]
_POOLING = {
    "word_embedding_dimension": 384,
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": True,
}
_TRAINED_ON = 1500


def tweets() -> Path:
    """The demo's, as CSV with columns text and label."""
    return prepare_inputs() / TWEETS


def prepare_classifier() -> Path:
    """MiniLM whose last layer was fitted to tweets: three classes, float32."""
    return _keep("classifier", lambda target: _run("fit", prepare_inputs() / MODEL, target))


def prepare_embedder() -> Path:
    """MiniLM as sentence-transformers has it, float32."""
    return _keep("embedder", _write_embedder)


def prepare_int8(folder: Path) -> Path:
    """The classifier as the build quantises it, for ONNX Runtime."""

    def make(target: Path) -> None:
        plan = {"method": "int8", "task": "text-classification", "folder": str(folder), "target": str(target)}
        with tempfile.TemporaryDirectory() as scratch:
            told = Path(scratch) / "plan.json"
            told.write_text(json.dumps(plan))
            _call("modelyard_build.variants", str(told), str(told.with_name("done")))

    return _keep("int8", make)


def _write_embedder(target: Path) -> None:
    shutil.copytree(prepare_inputs() / MODEL, target, dirs_exist_ok=True)
    (target / "modules.json").write_text(json.dumps(_MODULES))
    (target / "1_Pooling").mkdir()
    (target / "1_Pooling" / "config.json").write_text(json.dumps(_POOLING))
    (target / "2_Normalize").mkdir()


def _keep(name: str, make: Callable[[Path], object]) -> Path:
    """What was made of the same inputs by the same code before; else made aside and renamed."""
    recipe = hashlib.sha256(f"{prepare_inputs().name} {name}".encode() + Path(__file__).read_bytes())
    target = CACHE / "models" / f"bench-{name}-{recipe.hexdigest()[:12]}"
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            new = Path(scratch) / "new"
            new.mkdir()
            make(new)
            new.replace(target)
    return target


def _run(*arguments: object) -> None:
    _call(__spec__.name, *map(str, arguments))


def _call(module: str, *arguments: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-m", module, *arguments], env=environment, check=True)


def _fit(base: Path, target: Path) -> None:
    """Only the last layer is fitted, by logistic regression on what the layers below say of tweets."""
    import csv

    import torch
    import transformers
    from sklearn.linear_model import LogisticRegression

    with tweets().open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:_TRAINED_ON]
    labels = sorted({row["label"] for row in rows})
    about = {"num_labels": len(labels), "id2label": dict(enumerate(labels))}
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        base, **about, label2id={label: place for place, label in enumerate(labels)}, dtype="float32"
    ).eval()
    features = []
    with torch.inference_mode():
        for start in range(0, len(rows), 16):
            texts = [row["text"] for row in rows[start : start + 16]]
            given = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
            features.append(model.bert(**given).pooler_output)
    fitted = LogisticRegression(max_iter=1000).fit(
        torch.cat(features).numpy(), [labels.index(row["label"]) for row in rows]
    )
    with torch.no_grad():
        model.classifier.weight.copy_(torch.from_numpy(fitted.coef_))
        model.classifier.bias.copy_(torch.from_numpy(fitted.intercept_))
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    _fit(Path(sys.argv[2]), Path(sys.argv[3]))
