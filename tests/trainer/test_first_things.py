"""What is settled before a run's first step: the head, the rehearsal, and whose fault it is when it can't begin."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from modelyard.contract.codes import EXIT_USER_ERROR
from modelyard_models.files import hash_file
from modelyard_trainer.context import Context
from safetensors.numpy import load_file, save_file

from tests.trainer.launching import fail, launch, prepare_run, succeed
from tests.unit.trainer.builders import BERT

FAULTY = "tests.trainer.faulty"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, dict[str, float]]:
    """A run of 60 steps that tells the classes apart, and its metrics on validation."""
    ctx = prepare_run(
        tmp_path_factory.mktemp("classifier"), training__max_steps=60, training__learning_rate=3e-3
    )
    result = succeed(launch(ctx, processes=1))
    assert result.metrics["eval_accuracy"] > 0.9
    return ctx, result.metrics


def take_as_base(trained: Context, root: Path, **changes: Any) -> Context:
    """A run on the same data that begins with the model of another."""
    target = root / "sources/pvc/models/base"
    shutil.copytree(trained.run_dir / "model", target)
    return prepare_run(root, model={"uri": "pvc://models/base"}, **changes)


def exchange_classes(folder: Path) -> None:
    """The same classifier with its two classes in the other order: names and rows of the head."""
    config = json.loads((folder / "config.json").read_text())
    names = [config["id2label"]["1"], config["id2label"]["0"]]
    config["id2label"] = {"0": names[0], "1": names[1]}
    config["label2id"] = {names[0]: 0, names[1]: 1}
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name][::-1].copy()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_a_classifier_goes_on_in_its_own_order_of_classes(
    classifier: tuple[Context, dict[str, float]], tmp_path: Path
) -> None:
    trained, before = classifier
    folder = tmp_path / "exchanged/runs/model"
    shutil.copytree(trained.run_dir / "model", folder)
    exchange_classes(folder)
    root = tmp_path / "run"
    shutil.copytree(folder, root / "sources/pvc/models/base")
    ctx = prepare_run(
        root,
        model={"uri": "pvc://models/base"},
        training__max_steps=1,
        training__learning_rate=1e-9,
        training__args={"eval_on_start": True},
    )
    result = succeed(launch(ctx, processes=1))
    for metrics in (result.baseline, result.metrics):
        assert metrics == pytest.approx(before, rel=1e-4)
    config = json.loads((ctx.run_dir / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "positive", "1": "negative"}
    base = json.loads((ctx.run_dir / "model" / "modelyard.json").read_text())["base"]
    assert base["head"] == "kept" and "newlyInitialized" not in base


def test_a_head_for_other_classes_begins_anew_under_zero_3_too(
    classifier: tuple[Context, dict[str, float]], tmp_path: Path
) -> None:
    trained, before = classifier
    names = {"id2label": {"0": "ham", "1": "spam"}, "label2id": {"ham": 0, "spam": 1}}
    root = tmp_path / "run"
    shutil.copytree(trained.run_dir / "model", root / "sources/pvc/models/base")
    path = root / "sources/pvc/models/base/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | names))
    ctx = prepare_run(
        root,
        model={"uri": "pvc://models/base"},
        deepspeed={"zero_optimization": {"stage": 3}},
        training__max_steps=1,
        training__learning_rate=1e-9,
    )
    result = succeed(launch(ctx, processes=2))
    assert result.metrics["eval_loss"] > before["eval_loss"] + 0.3  # knows nothing of these classes yet
    old, new = (load_file(c.run_dir / "model/model.safetensors") for c in (trained, ctx))
    changed = {name for name in old if abs(old[name] - new[name]).max() > 1e-3}
    assert old.keys() == new.keys() and changed == {"classifier.weight", "classifier.bias"}
    assert abs(new["classifier.weight"]).std() < 0.05  # as a new layer begins, not zeros and not the old one
    config = json.loads((ctx.run_dir / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    assert json.loads((ctx.run_dir / "model" / "modelyard.json").read_text())["base"]["head"] == "new"
    assert "Its head was made anew" in (ctx.run_dir / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        ("evaluation", "EvaluationFailed", ("eval_perplexity", "before the first step")),
        ("saving", "CheckpointFailed", ("cannot pickle", "before the first step")),
        ("first step", "StartFailed", ("index out of range",)),
    ],
)
def test_what_fails_before_the_first_step_is_fatal_and_called_by_its_cause(
    tmp_path: Path, fault: str, reason: str, words: tuple[str, ...]
) -> None:
    failure = fail(launch(prepare_run(tmp_path), processes=1, module=FAULTY, FAULT=fault))
    assert (failure.reason, failure.exit_code) == (reason, EXIT_USER_ERROR)
    assert all(word in failure.message for word in words), failure.message


def test_a_peer_that_is_lost_before_the_first_step_is_no_users_error(tmp_path: Path) -> None:
    ended = launch(prepare_run(tmp_path), processes=1, module=FAULTY, FAULT="lost peer")
    assert ended.code != 0 and ended.fatal is None and "Connection reset by peer" in ended.output


def test_an_encoder_that_sees_the_next_token_is_refused_before_the_first_step(tmp_path: Path) -> None:
    ctx = prepare_run(tmp_path, task="text-generation", model={"config": BERT})
    failure = fail(launch(ctx, processes=1, module=FAULTY, FAULT="not causal"))
    assert failure.reason == "ModelInvalid" and "isn't causal" in failure.message
    trained = succeed(launch(ctx, processes=1, attempt=1))
    assert trained.outcome == "succeeded"
    assert json.loads((ctx.run_dir / "model" / "config.json").read_text())["is_decoder"] is True


def test_a_rehearsal_leaves_no_trace(tmp_path: Path) -> None:
    early = {"metric": "eval_loss", "max": 9.0, "patience": 2, "minDelta": 0.0}
    changes: dict[str, Any] = {
        "gate": early, "training__eval_steps": 2, "training__lr_scheduler_type": "reduce_lr_on_plateau",
        "model__dropout": 0.2,
        # No evaluation is good enough: each one halves the rate.
        "training__args": {"lr_scheduler_kwargs": {"factor": 0.5, "patience": 0, "threshold": 10.0}},
    }  # fmt: skip
    runs = [prepare_run(tmp_path / name, **changes) for name in ("with", "without")]
    results = [
        succeed(launch(runs[0], processes=1)),
        succeed(launch(runs[1], processes=1, module=FAULTY, FAULT="no rehearsal")),
    ]
    told = [r.model_dump(exclude={"last_checkpoint", "best_checkpoint", "model"}) for r in results]
    assert told[0] == told[1]
    files = [hash_file(ctx.run_dir / "model" / "model.safetensors") for ctx in runs]
    assert files[0] == files[1]
    assert not (runs[0].run_dir / "a0" / "rehearsal").exists()
