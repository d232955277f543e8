"""Real runs of a small model under torchrun: stops, resumes, gates, exports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from modelyard.contract.report import TrainResult
from modelyard_agent import checkpoints, parts
from modelyard_models.files import hash_file
from modelyard_trainer.context import Context

from tests.trainer.launching import fail, launch, losses, prepare_run, succeed

STEPS = 6
DROPOUT = {
    "training__eval_steps": 1,
    "training__gradient_accumulation_steps": 2,
    "training__args": {"eval_on_start": True},
    "training__lr_scheduler_type": "one_cycle",
    "model__dropout": 0.2,
    "deepspeed": {"zero_optimization": {"stage": 2}},
    "checkpoint__every_steps": 2,
    "checkpoint__keep_last": 9,
}


def weights(ctx: Context) -> str:
    return hash_file(ctx.run_dir / "model" / "model.safetensors")


def lose_end(ctx: Context) -> None:
    """As if the pods had died after their last checkpoint."""
    (ctx.run_dir / "result.json").unlink()
    shutil.rmtree(ctx.run_dir / "model")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, TrainResult, dict[str, Any]]:
    ctx = prepare_run(tmp_path_factory.mktemp("undisturbed"), **DROPOUT)
    ended = launch(ctx, proves=True)
    return ctx, succeed(ended), ended.progress


def test_a_run_tells_its_progress_saves_and_exports(
    undisturbed: tuple[Context, TrainResult, dict[str, Any]],
) -> None:
    ctx, result, progress = undisturbed
    assert (result.outcome, result.step, result.max_steps, result.lost_steps) == (
        "succeeded",
        STEPS,
        STEPS,
        0,
    )
    assert set(result.metrics) == {"eval_loss", "eval_accuracy", "eval_f1", "eval_precision", "eval_recall"}
    assert (
        set(result.baseline) == set(result.metrics) == set(result.baseline_test) == set(result.test_metrics)
    )
    assert result.last_checkpoint is not None and result.last_checkpoint.step == STEPS
    assert result.last_checkpoint.world_size == 2 and result.last_checkpoint.metric == "eval_loss"
    assert (progress["step"], progress["maxSteps"], progress["state"]) == (STEPS, STEPS, "exporting")
    assert {"loss", "learning_rate", "eval_loss", "eval_f1"} <= set(progress["metrics"])
    assert progress["lastCheckpoint"]["step"] == STEPS
    manifest = json.loads((ctx.run_dir / "model" / "modelyard.json").read_text())
    assert result.model is not None and manifest["digest"] == result.model.digest
    assert manifest["data"]["digest"] in str(ctx.dataset) and manifest["metrics"] == result.metrics
    assert "| f1 |" in (ctx.run_dir / "model" / "README.md").read_text()
    config = json.loads((ctx.run_dir / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"} and config["hidden_dropout_prob"] == 0.2


def test_the_exported_model_predicts_in_plain_transformers(
    undisturbed: tuple[Context, TrainResult, dict[str, Any]],
) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = undisturbed[0].run_dir / "model"
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    with torch.no_grad():
        logits = model(
            **tokenizer(["good good fox", "bad bad dog"], return_tensors="pt", padding=True)
        ).logits
    assert logits.shape == (2, 2) and bool(torch.isfinite(logits).all())
    assert not (folder / "training_args.bin").exists()


def test_an_attempt_after_the_end_gives_the_same_result_at_once(
    undisturbed: tuple[Context, TrainResult, dict[str, Any]],
) -> None:
    ctx, result, _ = undisturbed
    before = weights(ctx)
    again = succeed(launch(ctx, attempt=5))
    assert again == result.model_copy(update={"attempt": 5}) and weights(ctx) == before


def test_a_stopped_and_resumed_run_ends_with_the_same_weights_and_losses(
    undisturbed: tuple[Context, TrainResult, dict[str, Any]], tmp_path: Path
) -> None:
    ctx = prepare_run(tmp_path, **DROPOUT)
    stopped = succeed(launch(ctx, stop=True))
    assert (stopped.outcome, stopped.step, stopped.lost_steps) == ("preempted", 1, 0)
    assert stopped.last_checkpoint is not None and stopped.last_checkpoint.step == 1
    assert not (ctx.run_dir / "result.json").exists() and not (ctx.run_dir / "model").exists()
    resumed = succeed(launch(ctx, attempt=1))
    assert (resumed.outcome, resumed.resumed_from, resumed.step) == ("succeeded", 1, STEPS)
    other, result, _ = undisturbed
    assert losses(ctx, 1, STEPS) == losses(other, 0, STEPS)
    assert weights(ctx) == weights(other)
    assert (resumed.metrics, resumed.baseline) == (result.metrics, result.baseline)


def test_a_torn_checkpoint_is_passed_over(undisturbed: tuple[Context, TrainResult, dict[str, Any]]) -> None:
    ctx, result, _ = undisturbed
    before = weights(ctx)
    lose_end(ctx)
    torn = ctx.run_dir / "a0" / f"checkpoint-{STEPS}" / "model.safetensors"
    content = bytearray(torn.read_bytes())
    content[-1] ^= 1  # the size stays: only the hash tells
    torn.write_bytes(content)
    resumed = succeed(launch(ctx, attempt=1))
    assert (resumed.resumed_from, resumed.outcome) == (4, "succeeded")
    assert resumed.metrics == result.metrics and weights(ctx) == before


def test_a_run_that_lost_only_its_end_trains_no_further(
    undisturbed: tuple[Context, TrainResult, dict[str, Any]],
) -> None:
    ctx, result, _ = undisturbed
    before = weights(ctx)
    lose_end(ctx)
    resumed = succeed(launch(ctx, attempt=2))
    assert (resumed.resumed_from, resumed.step) == (STEPS, STEPS)
    assert resumed.metrics == result.metrics and weights(ctx) == before


def test_two_nodes_verify_together_and_what_one_of_them_owes_does_not_count(
    undisturbed: tuple[Context, TrainResult, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_part = checkpoints.write_part

    def write_or_die(folder: Path, share: parts.Share) -> None:
        if folder.name != "checkpoint-4":
            write_part(folder, share)

    ctx = prepare_run(tmp_path, **DROPOUT)
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "write_part", write_or_die)
        patched.setattr(parts, "SILENT_SECONDS", 2.0)
        ended = launch(ctx, nodes=2, module="tests.trainer.faulty", FAULT="gone after step 4")
    assert ended.code != 0, ended.output[-4000:]
    assert (ctx.run_dir / "a0/checkpoint-4/latest").exists()
    assert [found.step for found in checkpoints.walk_back(ctx.run_dir)] == [2]
    result = succeed(launch(ctx, attempt=1, nodes=2))
    assert (result.resumed_from, result.step) == (2, STEPS)
    assert weights(ctx) == weights(undisturbed[0]) and result.metrics == undisturbed[1].metrics
    newest = next(checkpoints.walk_back(ctx.run_dir))
    files = {
        path.relative_to(newest.folder).as_posix() for path in newest.folder.rglob("*") if path.is_file()
    }
    assert {file["path"] for file in newest.manifest["files"]} == files - {"manifest.json"}
    lose_end(ctx)
    [torn] = newest.folder.rglob(
        "*zero_pp_rank_1_mp_rank_00_optim_states.pt"
    )  # rank 1 reads it, rank 0 doesn't
    content = bytearray(torn.read_bytes())
    content[-1] ^= 1
    torn.write_bytes(content)
    assert succeed(launch(ctx, attempt=2, nodes=2)).resumed_from == 4


# Without dropout, since ranks draw their own random numbers.
EXACT = {"model__dropout": 0.0, "checkpoint__keep_last": 9}


@pytest.fixture(scope="module")
def exact_losses(tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    ctx = prepare_run(tmp_path_factory.mktemp("exact"), **EXACT)
    succeed(launch(ctx))
    return losses(ctx, 0, STEPS)


@pytest.mark.parametrize("stage", [1, 3])
def test_a_checkpoint_of_two_processes_goes_on_with_one(
    tmp_path: Path, stage: int, exact_losses: dict[int, float]
) -> None:
    changes = EXACT | {"deepspeed": {"zero_optimization": {"stage": stage}}}
    assert succeed(launch(prepare_run(tmp_path, **changes), stop=True)).step == 1
    alone = prepare_run(tmp_path, training__per_device_train_batch_size=8, **changes)
    resumed = succeed(launch(alone, processes=1, attempt=1))
    assert (resumed.resumed_from, resumed.step) == (1, STEPS)
    assert not list((alone.run_dir / "a1").glob("universal-*"))
    if stage == 1:  # stage 3 makes other first weights of the same seed
        assert losses(alone, 1, STEPS) == pytest.approx(exact_losses, abs=1e-4)


@pytest.mark.parametrize("stage", [0, 3])
def test_a_language_model_learns_and_is_exported_at_every_stage(tmp_path: Path, stage: int) -> None:
    from transformers import AutoModelForCausalLM

    ctx = prepare_run(
        tmp_path, task="text-generation", deepspeed={"zero_optimization": {"stage": stage}},
        training__max_steps=12, training__learning_rate=1e-2, training__args={"eval_on_start": True},
        model__dropout=None,
    )  # fmt: skip
    result = succeed(launch(ctx))
    assert set(result.metrics) == {"eval_loss", "eval_perplexity"}
    assert result.metrics["eval_loss"] < result.baseline["eval_loss"] - 0.5
    model = AutoModelForCausalLM.from_pretrained(ctx.run_dir / "model", local_files_only=True)
    assert sum(p.numel() for p in model.parameters()) > 30_000


def test_a_missed_gate_keeps_the_model_and_marks_it(tmp_path: Path) -> None:
    gate = {"metric": "eval_accuracy", "min": 1.01, "patience": 1}
    ctx = prepare_run(tmp_path, gate=gate, training__eval_steps=1, training__learning_rate=1e-9)
    result = succeed(launch(ctx, processes=1))
    assert result.outcome == "gateFailed" and result.gate is not None and not result.gate.passed
    assert result.step == 2, "the second evaluation doesn't improve on the first: stopped early"
    manifest = json.loads((ctx.run_dir / "model" / "modelyard.json").read_text())
    assert manifest["gate"]["passed"] is False
    assert "did not pass its gate" in (ctx.run_dir / "model" / "README.md").read_text()


def test_a_better_checkpoint_than_the_last_is_exported(tmp_path: Path) -> None:
    # The loss rises after a few steps: the learning rate is far too large.
    gate = {"metric": "eval_loss", "max": 100.0}
    ctx = prepare_run(tmp_path, gate=gate, training__eval_steps=1, training__learning_rate=0.5)
    result = succeed(launch(ctx))
    assert result.best_checkpoint is not None and result.best_checkpoint.step < STEPS
    assert result.metrics["eval_loss"] == pytest.approx(result.best_checkpoint.value, abs=1e-5)


def test_a_loss_that_is_no_number_ends_the_run_as_the_users_error(tmp_path: Path) -> None:
    ctx = prepare_run(tmp_path, training__learning_rate=1e30, training__args={"max_grad_norm": 0.0})
    failure = fail(launch(ctx, processes=1))
    assert (failure.reason, failure.exit_code) == ("LossNaN", 2) and "learningRate" in failure.message


def test_a_wrong_argument_is_named(tmp_path: Path) -> None:
    ctx = prepare_run(tmp_path, training__optim="adamw_torc")
    failure = fail(launch(ctx, processes=1))
    assert (failure.reason, failure.exit_code) == ("InvalidArgument", 2) and "adamw_torc" in failure.message
