"""The parts of training that need no process of their own."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from modelyard.contract import codes
from modelyard.contract.report import FailureReport, ModelReport, PrepareResult, TrainResult
from modelyard.contract.run import GateInput, TrainingInput
from modelyard_agent import checkpoints
from modelyard_agent.parts import Share, read_share
from modelyard_models.failure import Failure
from modelyard_models.files import write_json
from modelyard_trainer.prepare import main as prepare_stage
from modelyard_trainer.prepare.main import prepare
from modelyard_trainer.tasks import TASKS, find_task
from modelyard_trainer.train import main as train_stage
from modelyard_trainer.train.agreement import Agreement
from modelyard_trainer.train.arguments import (
    collect_arguments,
    count_steps,
    make_arguments,
    resolve_eval_steps,
)
from modelyard_trainer.train.card import write_card
from modelyard_trainer.train.dataset import IGNORED, Collator, open_split
from modelyard_trainer.train.devices import Devices
from modelyard_trainer.train.divergence import DivergenceGuard
from modelyard_trainer.train.evaluation import load_best
from modelyard_trainer.train.explanation import explain, explain_start
from modelyard_trainer.train.gate import improves, judge
from modelyard_trainer.train.improvement import Improvement
from modelyard_trainer.train.modeling import set_dropout
from modelyard_trainer.train.precision import choose_precision
from modelyard_trainer.train.progress import ProgressReporter
from modelyard_trainer.train.ranks import Ranks
from modelyard_trainer.train.results import find_finished, write_fatal, write_result
from modelyard_trainer.train.saving import Saver
from modelyard_trainer.train.schedules import cyclic, make_schedule, one_cycle
from modelyard_trainer.train.universal import plan_conversion
from modelyard_trainer.train.zero import fill_config, stage_of
from transformers import BertConfig

from tests.unit.trainer.builders import BERT, RUN_PATH, make_context, make_rows, make_run, write_rows
from tests.unit.trainer.threads import run_ranks

CPU = Devices(gpu=False, bfloat16=False)
CLASSES = TASKS["text-classification"]


def training(**changes: Any) -> TrainingInput:
    return make_run(**{f"training__{k}": v for k, v in changes.items()}).training


# Schedules


def test_one_cycle_follows_torchs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=50, cycle_momentum=False)
    ours = one_cycle(50)
    for step in range(49):
        assert ours(step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()


def test_cyclic_goes_up_and_down_between_its_bounds() -> None:
    factor = cyclic(60, cycles=3, min_factor=0.2)
    assert [factor(s) for s in (0, 10, 20, 30, 60)] == pytest.approx([0.2, 1.0, 0.2, 1.0, 0.2])


def test_warm_up_is_the_rise_of_one_cycle_and_a_line_before_cyclic() -> None:
    assert make_schedule("one_cycle", 100, 10, {})(10) == pytest.approx(1.0)
    line = make_schedule("cyclic", 100, 10, {"min_factor": 0.5})
    assert [line(0), line(5), line(10)] == pytest.approx([0.0, 0.25, 0.5])


def test_a_wrong_option_of_a_schedule_is_the_users_error() -> None:
    with pytest.raises(Failure, match="InvalidArgument"):
        make_schedule("cyclic", 100, 0, {"cycle": 3})


# Gate


@pytest.mark.parametrize(
    ("bound", "value", "passed"),
    [
        ({"max": 0.5}, 0.5, True),
        ({"max": 0.5}, 0.51, False),
        ({"min": 0.5}, 0.5, True),
        ({"min": 0.5}, 0.49, False),
    ],
)
def test_the_gate_is_inclusive_on_both_sides(bound: dict[str, float], value: float, passed: bool) -> None:
    assert judge(GateInput(metric="eval_x", **bound), {"eval_x": value}).passed is passed


@pytest.mark.parametrize("metrics", [{}, {"eval_x": math.nan}, {"eval_x": math.inf}])
def test_what_is_no_number_never_passes(metrics: dict[str, float]) -> None:
    report = judge(GateInput(metric="eval_x", max=1.0), metrics)
    assert not report.passed and report.value is None


def test_improvement_has_the_gates_direction_and_min_delta() -> None:
    low, high = GateInput(metric="x", max=1.0), GateInput(metric="x", min=1.0)
    assert improves(low, 0.4, 0.5) and not improves(low, 0.5, 0.5) and not improves(low, 0.45, 0.5, 0.1)
    assert improves(high, 0.6, 0.5) and not improves(high, 0.4, 0.5)
    assert improves(low, 9.0, None) and improves(low, 9.0, math.nan) and not improves(low, math.nan, None)


def test_a_gate_on_something_else_names_what_is_measured() -> None:
    with pytest.raises(Failure, match="did you mean eval_accuracy"):
        CLASSES.check_metric("eval_acuracy")
    find_task("text-generation").check_metric("eval_perplexity")
    with pytest.raises(Failure, match="InvalidRunConfig"):
        find_task("fill-mask")


def control() -> SimpleNamespace:
    names = ("should_save", "should_evaluate", "should_log", "should_training_stop")
    return SimpleNamespace(**dict.fromkeys(names, False))


def evaluate(improvement: Improvement, loss: float) -> SimpleNamespace:
    said = control()
    improvement.on_evaluate(None, None, said, {"eval_loss": loss})
    return said


def test_training_stops_after_patience_and_saves_each_best() -> None:
    gate = GateInput(metric="eval_loss", max=1.0, patience=2, min_delta=0.1)
    improvement = Improvement(gate, CLASSES, keeps_best=True)
    said = [evaluate(improvement, loss) for loss in (1.0, 0.95, 0.8, 0.85, 0.75)]
    assert [s.should_save for s in said] == [True, True, True, False, True]
    assert [s.should_training_stop for s in said] == [False, False, False, False, True]
    assert improvement.stopped


def test_patience_counts_on_after_a_resume() -> None:
    gate = GateInput(metric="eval_loss", max=1.0, patience=2)
    first, second = (Improvement(gate, CLASSES, keeps_best=False) for _ in range(2))
    evaluate(first, 1.0)
    evaluate(first, 2.0)
    for name, value in first.state()["attributes"].items():
        setattr(second, name, value)
    assert evaluate(second, 3.0).should_training_stop


# Agreement


class Crowd(Ranks):
    """Ranks of which the others wish something too."""

    def __init__(self, others: int = 0, rank: int = 0) -> None:
        super().__init__(rank, 2)
        self.others = others

    def largest(self, value: int) -> int:
        return max(value, self.others)


def step_end(agreement: Agreement, step: int, evaluates: bool = False) -> SimpleNamespace:
    said = control()
    said.should_evaluate = evaluates
    agreement.on_step_end(None, SimpleNamespace(global_step=step, max_steps=10), said)
    return said


def make_agreement(folder: Path, ranks: Ranks, due: bool = False, saves: bool = True) -> Agreement:
    return Agreement(ranks, folder / "stop", lambda step: due, saves, evaluates=True)


def test_a_stop_on_any_rank_saves_and_stops_all(tmp_path: Path) -> None:
    here, there = make_agreement(tmp_path, Crowd(others=2)), make_agreement(tmp_path, Crowd())
    said = step_end(here, 3)
    assert said.should_save and said.should_training_stop and here.stopped
    assert not step_end(there, 3).should_save
    (tmp_path / "stop").touch()
    assert step_end(there, 4).should_training_stop


def test_only_rank_0_decides_when_to_save(tmp_path: Path) -> None:
    assert step_end(make_agreement(tmp_path, Crowd(), due=True), 3).should_save
    assert not step_end(make_agreement(tmp_path, Crowd(rank=1), due=True), 3).should_save
    assert step_end(make_agreement(tmp_path, Crowd(others=1, rank=1)), 3).should_save


def test_a_stop_puts_an_evaluation_off(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    agreement = make_agreement(tmp_path, Crowd())
    assert not step_end(agreement, 3, evaluates=True).should_evaluate
    assert agreement.state()["attributes"] == {"owes_evaluation": True}


def test_without_on_signal_a_stop_saves_nothing(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    said = step_end(make_agreement(tmp_path, Crowd(), saves=False), 3)
    assert said.should_training_stop and not said.should_save


def test_the_last_step_is_logged_evaluated_and_saved(tmp_path: Path) -> None:
    said = step_end(make_agreement(tmp_path, Crowd()), 10)
    assert said.should_log and said.should_evaluate and said.should_save


def test_an_evaluation_is_owed_until_it_is_done(tmp_path: Path) -> None:
    agreement = make_agreement(tmp_path, Crowd())
    step_end(agreement, 3, evaluates=True)
    assert agreement.state()["attributes"] == {"owes_evaluation": True}
    agreement.on_evaluate(None, None, control())
    assert agreement.state()["attributes"] == {"owes_evaluation": False}


# Saving


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make_saver(tmp_path: Path, clock: Clock | None = None, **policy: Any) -> Saver:
    given = {f"checkpoint__{k}": v for k, v in policy.items()}
    ctx = make_context(tmp_path, make_run(**given))
    return Saver(ctx, Ranks(0, 1), None, "eval_loss", clock or Clock())


def test_a_checkpoint_is_due_by_steps_or_by_time_whichever_comes_first(tmp_path: Path) -> None:
    clock = Clock()
    saver = make_saver(tmp_path, clock, every_steps=5, max_lost_seconds=100)
    assert saver.due(5) and not saver.due(6)
    clock.now = 100.0
    assert saver.due(6)
    saver.begin()
    assert not saver.due(6)


def write_step(saver: Saver, step: int) -> None:
    def write() -> None:
        saver.folder(step).mkdir(parents=True)
        (saver.folder(step) / "weights").write_text(str(step))

    saver.save(step, write)


def test_without_an_agent_checkpoints_are_verified_and_rotated_all_the_same(tmp_path: Path) -> None:
    saver = make_saver(tmp_path, keep_last=1, keep_best=1)
    for step, loss in ((1, 0.9), (2, 0.5), (3, 0.7)):
        saver.note(step, {"eval_loss": loss})
        write_step(saver, step)
    assert [c.step for c in saver.verified()] == [3, 2]
    found = saver.wait(3, 0.0)
    assert found is not None and (found.step, found.value) == (3, 0.7)
    assert saver.wait(1, 0.0) is None


def test_a_value_that_comes_after_the_checkpoint_gets_into_its_manifest(tmp_path: Path) -> None:
    saver = make_saver(tmp_path, keep_last=9)
    write_step(saver, 1)
    saver.note(1, {"eval_loss": 0.5})
    write_step(saver, 2)
    saver.note(2, {"eval_loss": math.nan})
    first, second = saver.wait(1, 0.0), saver.wait(2, 0.0)
    assert first is not None and (first.metric, first.value) == ("eval_loss", 0.5)
    assert second is not None and second.value is None
    for checkpoint in saver.verified():
        checkpoints.verify_bytes(checkpoint, threads=1)
    assert [c.step for c in saver.ranked()] == [1]


def test_a_value_for_a_checkpoint_that_is_gone_fails_nothing(tmp_path: Path) -> None:
    saver = make_saver(tmp_path)
    write_step(saver, 1)
    checkpoints.remove(saver.folder(1))
    saver.note(1, {"eval_loss": 0.5})
    assert not saver.verified()


class SlowAgent:
    """An agent that verifies what it was asked to only when somebody waits for it."""

    def __init__(self) -> None:
        self.asked: dict[int, dict[str, Any]] = {}
        self.saver: Any = None

    def request_verification(self, **checkpoint: Any) -> bool:
        self.asked[checkpoint["step"]] = checkpoint
        return True

    def amend_checkpoint(self, step: int, metric: str, value: float) -> bool:
        self.asked[step] |= {"metric": metric, "value": value}
        return True

    def wait_for_verification(self, step: int, timeout_seconds: float) -> None:
        for asked, info in self.asked.items():
            checkpoints.write_manifest(self.saver.folder(asked), info)


def save_on_nodes(tmp_path: Path, agents: list[Any]) -> list[Saver]:
    """Savers of two nodes with two ranks each, after a step was saved."""

    def save(ranks: Ranks) -> Saver:
        node, local_rank = divmod(ranks.rank, 2)
        ctx = make_context(
            tmp_path, make_run(), rank=ranks.rank, local_rank=local_rank, world_size=4, local_world_size=2,
            node=node, nodes=2,
        )  # fmt: skip
        saver = Saver(ctx, ranks, agents[ranks.rank], "eval_loss")

        def write() -> None:
            saver.folder(1).mkdir(parents=True, exist_ok=True)
            (saver.folder(1) / f"rng_state_{ranks.rank}.pth").write_text("state")

        saver.save(1, write)
        return saver

    return run_ranks(4, save)


def test_the_first_rank_of_each_node_asks_for_its_part_of_the_same_save(tmp_path: Path) -> None:
    agents = [SlowAgent() for _ in range(4)]
    save_on_nodes(tmp_path, agents)
    assert [list(agent.asked) for agent in agents] == [[1], [], [1], []]
    first, other = (read_share(agents[rank].asked[1]["share"]) for rank in (0, 2))
    assert (first.node, first.nodes, first.ranks) == (0, 2, range(2))
    assert other == Share(first.save, 1, 2, range(2, 4))
    save_on_nodes(tmp_path, agents)
    assert agents[0].asked[1]["share"]["save"] != first.save, "a step that is saved again is another save"


def test_without_agents_the_processes_of_the_nodes_verify_together(tmp_path: Path) -> None:
    saver = save_on_nodes(tmp_path, [None] * 4)[0]
    [found] = saver.verified()
    assert [file["path"] for file in found.manifest["files"]] == [
        f"rng_state_{rank}.pth" for rank in range(4)
    ]


def test_the_best_checkpoint_is_looked_for_once_all_are_verified(tmp_path: Path) -> None:
    agent = SlowAgent()
    ctx = make_context(tmp_path, make_run())
    agent.saver = saver = Saver(ctx, Ranks(0, 1), agent, "eval_loss")  # type: ignore[arg-type]
    for step, loss in ((1, 0.5), (2, 0.4), (3, 0.7)):
        write_step(saver, step)
        saver.note(step, {"eval_loss": loss})
    loaded: list[str] = []
    engine = SimpleNamespace(load_checkpoint=lambda path, **options: loaded.append(path))
    gate = GateInput(metric="eval_loss", max=1.0)
    best = load_best(SimpleNamespace(deepspeed=engine), Ranks(0, 1), saver, gate, 1, 0.7)
    assert best is not None and best.step == 2 and loaded == [str(saver.folder(2))]


def test_a_step_that_is_saved_again_is_no_checkpoint_meanwhile(tmp_path: Path) -> None:
    saver = make_saver(tmp_path)
    write_step(saver, 1)

    def write() -> None:
        assert not checkpoints.list_verified(saver.folder(1).parent.parent)
        saver.folder(1).mkdir()
        (saver.folder(1) / "weights").write_text("again")

    saver.save(1, write)
    assert saver.wait(1, 0.0) is not None


# Arguments


def arguments(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return collect_arguments(training(**changes), None, {}, "float32", CPU, tmp_path, 100)


def test_args_go_on_top_of_ours(tmp_path: Path) -> None:
    args = {"label_smoothing_factor": 0.1, "logging_steps": 7, "eval_on_start": True}
    made = arguments(tmp_path, args=args)
    assert (made["label_smoothing_factor"], made["logging_steps"]) == (0.1, 7)
    assert "eval_on_start" not in made
    assert made["logging_nan_inf_filter"] is False and made["use_cpu"] and made["data_seed"] == 42


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"learning_rte": 1}, "did you mean learning_rate"),
        ({"save_strategy": "epoch"}, "save_strategy is set by Modelyard"),
        ({"logging_strategy": "sometimes"}, "sometimes"),
    ],
)
def test_wrong_args_are_the_users_error(tmp_path: Path, args: dict[str, Any], words: str) -> None:
    with pytest.raises(Failure) as caught:
        make_arguments(arguments(tmp_path, args=args), args)
    assert caught.value.reason == "InvalidArgument" and words in caught.value.message


@pytest.mark.parametrize(
    ("epochs", "rows", "world", "steps"),
    [(1.0, 100, 2, 7), (3.0, 100, 2, 21), (0.5, 100, 2, 4), (1.0, 3, 4, 1)],
)
def test_steps_are_counted_as_the_trainer_does(epochs: float, rows: int, world: int, steps: int) -> None:
    run = training(max_steps=None, num_train_epochs=epochs, gradient_accumulation_steps=2)
    assert count_steps(run, rows, world) == steps


def test_early_stopping_without_eval_steps_evaluates_ten_times() -> None:
    gate = GateInput(metric="eval_loss", max=1.0, patience=3)
    assert resolve_eval_steps(training(), gate, 250) == 25
    assert resolve_eval_steps(training(eval_steps=7), gate, 250) == 7
    assert resolve_eval_steps(training(), None, 250) is None


@pytest.mark.parametrize(
    ("dtype", "config", "devices", "precision"),
    [
        ("auto", {}, CPU, "float32"),
        ("auto", {}, Devices(True, True), "bfloat16"),
        ("auto", {}, Devices(True, False), "float32"),
        ("bfloat16", {}, CPU, "bfloat16"),
        ("float32", {"bf16": {"enabled": True}}, CPU, "bfloat16"),
        ("auto", {"fp16": {"enabled": True}}, Devices(True, True), "float16"),
    ],
)
def test_precision_is_the_users_word_or_what_the_gpu_has(
    dtype: str, config: dict[str, Any], devices: Devices, precision: str
) -> None:
    assert choose_precision(dtype, config, {}, devices) == precision


def test_float16_on_a_cpu_is_refused() -> None:
    with pytest.raises(Failure, match="InvalidArgument"):
        choose_precision("auto", {}, {"fp16": True}, CPU)


def test_the_deepspeed_configuration_is_completed_and_the_users_words_stay() -> None:
    given = {"zero_optimization": {"stage": 3}, "optimizer": {"type": "AdamW"}, "train_batch_size": "auto"}
    filled = fill_config(given, training(gradient_accumulation_steps=2), "bfloat16", 2)
    assert filled["train_batch_size"] == 16 and filled["train_micro_batch_size_per_gpu"] == 4
    assert filled["bf16"] == {"enabled": True} and filled["fp16"] == {"enabled": False}
    assert filled["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True
    assert filled["optimizer"]["params"] == {"torch_adam": True}
    assert given == {
        "zero_optimization": {"stage": 3},
        "optimizer": {"type": "AdamW"},
        "train_batch_size": "auto",
    }
    assert stage_of({}) == 0
    kept = fill_config({"gradient_clipping": 0.5, "bf16": {"enabled": False}}, training(), "float32", 1)
    assert kept["gradient_clipping"] == 0.5 and kept["bf16"]["enabled"] is False


@pytest.mark.parametrize(
    "name", ["stage3_gather_16bit_weights_on_model_save", "stage3_gather_fp16_weights_on_model_save"]
)
def test_stage_3_without_gathered_weights_is_refused(name: str) -> None:
    zero = {"stage": 3, name: False}
    with pytest.raises(
        Failure, match=rf"InvalidArgument: deepspeed\.config\.zero_optimization\.{name} is False"
    ):
        fill_config({"zero_optimization": zero}, training(), "float32", 2)
    filled = fill_config({"zero_optimization": zero | {name: "auto"}}, training(), "float32", 2)
    assert filled["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True
    fill_config({"zero_optimization": zero | {"stage": 2}}, training(), "float32", 2)


def test_only_sharded_states_are_converted_for_another_world_size() -> None:
    assert plan_conversion(2, 1, 1) and plan_conversion(1, 2, 3)
    assert not plan_conversion(2, 1, 0) and not plan_conversion(2, 2, 3)


# Models and data


def test_dropout_is_written_wherever_the_configuration_has_it() -> None:
    config = BertConfig(**{k: v for k, v in BERT.items() if k != "model_type"})
    set_dropout(config, 0.25)
    assert (
        config.hidden_dropout_prob == config.attention_probs_dropout_prob == config.classifier_dropout == 0.25
    )


def test_dropout_for_a_model_that_has_none_is_refused() -> None:
    config = SimpleNamespace(model_type="plain", hidden_size=8)
    with pytest.raises(Failure, match="has no dropout"):
        set_dropout(config, 0.1)


def test_a_split_is_read_row_by_row_from_its_shards(tmp_path: Path, model_folder: Path) -> None:
    (tmp_path / "sources/pvc/models").mkdir(parents=True)
    (tmp_path / "sources/pvc/models/base").symlink_to(model_folder)
    write_rows(tmp_path / "sources/pvc/data/rows.csv", make_rows(50))
    ctx = make_context(tmp_path, make_run())
    folder = ctx.storage / "datasets" / str(prepare(ctx).digest)
    split = open_split(folder, "train")
    rows = [split[i] for i in range(len(split))]
    assert len(rows) == 45 and {r["labels"] for r in rows} == {0, 1}
    assert split.mean_length == pytest.approx(np.mean([len(r["input_ids"]) for r in rows]))
    with pytest.raises(IndexError):
        split[45]
    with pytest.raises(Failure, match="DatasetMissing"):
        open_split(folder, "more")


def test_batches_are_padded_to_the_longest_row() -> None:
    rows = [
        {"input_ids": np.array([5, 6, 7], np.int32), "labels": 1},
        {"input_ids": np.array([8], np.int32), "labels": 0},
    ]
    batch = Collator(pad_id=9, labelled=True)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]] and batch["labels"].tolist() == [1, 0]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    rounded = Collator(pad_id=9, labelled=False, multiple=4)(rows)
    assert rounded["labels"].tolist() == [[5, 6, 7, IGNORED], [8, IGNORED, IGNORED, IGNORED]]
    assert all(t.dtype == torch.int64 for t in rounded.values())
    within = Collator(pad_id=9, labelled=False, multiple=8, limit=5)(rows)
    assert within["input_ids"].shape == (2, 5)  # a table of 5 positions has no sixth


def test_a_tasks_metrics_are_chosen_out_of_what_the_trainer_tells() -> None:
    told = {"eval_perplexity": 7.4, "eval_loss": 2.0, "eval_runtime": 1.0, "epoch": 1.0}
    assert TASKS["text-generation"].select_metrics(told) == {"eval_loss": 2.0, "eval_perplexity": 7.4}


# Progress and results


class Heard:
    """A client that keeps what it is told."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []

    def report(self, **fields: Any) -> None:
        self.reports.append(fields)


def test_progress_is_told_twice_a_second_at_most_and_at_the_last_step() -> None:
    heard = Heard()
    reporter = ProgressReporter(heard, CLASSES, batch_rows=8, mean_length=10.0)  # type: ignore[arg-type]
    state = SimpleNamespace(global_step=0, max_steps=100, epoch=0.0)
    reporter.on_train_begin(None, state, None)
    for step in range(1, 101):
        reporter.on_step_begin(None, state, None)
        state.global_step = step
        reporter.on_step_end(None, state, None)
    steps = [r["step"] for r in heard.reports if "step" in r]
    assert steps[0] == 0 and steps[-1] == 100 and len(steps) < 10
    last = heard.reports[-1]
    assert last["state"] == "training" and last["tokensPerSecond"] == pytest.approx(
        10 * last["samplesPerSecond"]
    )


def test_saving_often_keeps_no_step_untold(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("modelyard_trainer.train.progress.time.monotonic", lambda: now)
    heard = Heard()
    reporter = ProgressReporter(heard, CLASSES, batch_rows=8, mean_length=10.0)  # type: ignore[arg-type]
    state = SimpleNamespace(global_step=0, max_steps=1000, epoch=0.0)
    for step in range(1, 21):
        reporter.on_step_begin(None, state, None)
        now, state.global_step = step * 0.2, step
        reporter.on_step_end(None, state, None)
        reporter.enter("saving")
    assert [r["step"] for r in heard.reports if "step" in r] == [3, 6, 9, 12, 15, 18]


def test_training_is_told_of_when_it_begins_and_when_it_goes_on() -> None:
    heard = Heard()
    reporter = ProgressReporter(heard, CLASSES, batch_rows=8, mean_length=10.0)  # type: ignore[arg-type]
    state = SimpleNamespace(global_step=0, max_steps=4, epoch=0.0)
    reporter.on_train_begin(None, state, None)
    for pause in (None, "saving", None, "evaluating"):
        before = len(heard.reports)
        reporter.on_step_begin(None, state, None)
        reporter.on_step_begin(None, state, None)
        begun = [r["state"] for r in heard.reports[before:]]
        assert begun == ([] if state.global_step in (1, 3) else ["training"])
        state.global_step += 1
        reporter.on_step_end(None, state, None)
        if pause:
            reporter.enter(pause)
    assert heard.reports[0]["state"] == "starting"


def test_metrics_are_passed_on_as_they_are_logged() -> None:
    heard = Heard()
    reporter = ProgressReporter(heard, CLASSES, 8, 10.0)  # type: ignore[arg-type]
    reporter.on_log(None, None, None, {"loss": 0.5, "learning_rate": 1e-3, "epoch": 1.0})
    reporter.on_log(None, None, None, {"train_runtime": 3.0})
    reporter.on_evaluate(None, None, None, {"eval_loss": 0.4, "eval_runtime": 2.0})
    assert heard.reports == [
        {"metrics": {"loss": 0.5, "learning_rate": 1e-3}},
        {"metrics": {"eval_loss": 0.4}},
    ]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_not_trained_on(loss: float) -> None:
    with pytest.raises(Failure, match="LossNaN"):
        DivergenceGuard().on_log(None, SimpleNamespace(global_step=3), None, {"loss": loss})
    DivergenceGuard().on_log(None, SimpleNamespace(global_step=3), None, {"loss": 1.0, "grad_norm": math.inf})


def test_a_run_config_that_this_image_can_not_read_is_the_reason_of_either_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "run.json"
    config.write_text('{"contractVersion": 1}')
    monkeypatch.setenv(codes.ENV_RUN_CONFIG, str(config))
    monkeypatch.setenv(codes.ENV_RUNTIME_DIR, str(tmp_path))
    assert (prepare_stage.main(), train_stage.main()) == (codes.EXIT_USER_ERROR, codes.EXIT_USER_ERROR)
    fatal = FailureReport.model_validate_json((tmp_path / codes.FATAL_FILE).read_text())
    result = PrepareResult.model_validate_json((tmp_path / codes.RESULT_FILE).read_text())
    assert result.outcome == "failed" and result.failure is not None
    assert fatal.reason == result.failure.reason == "InvalidRunConfig"


def test_the_first_failure_of_a_pod_is_the_one_that_counts(tmp_path: Path) -> None:
    ctx = make_context(tmp_path, make_run())
    write_fatal(ctx.runtime, Failure("LossNaN", "first"), ctx.rank)
    write_fatal(ctx.runtime, Failure("PeerFailed", "second"))
    assert json.loads((ctx.runtime / "fatal.json").read_text())["reason"] == "LossNaN"
    assert [p.name for p in ctx.runtime.iterdir()] == ["fatal.json"]


@pytest.mark.parametrize(
    ("rank", "local", "node", "full"), [(0, 0, 0, True), (2, 0, 1, False), (1, 1, 0, None)]
)
def test_rank_0_tells_the_attempts_result_and_other_pods_their_end(
    tmp_path: Path, rank: int, local: int, node: int, full: bool | None
) -> None:
    ctx = make_context(tmp_path, make_run(), rank=rank, local_rank=local, node=node, world_size=4)
    write_result(
        ctx, TrainResult(outcome="succeeded", attempt=0, node=node, step=9, metrics={"eval_loss": 1.0})
    )
    if full is None:
        assert not ctx.runtime.exists()
        return
    written = TrainResult.model_validate_json((ctx.runtime / "result.json").read_bytes())
    assert (written.node, written.step, bool(written.metrics)) == (node, 9, full)
    assert (find_finished(ctx) is not None) is full


def test_a_finished_result_whose_model_is_gone_is_none(tmp_path: Path) -> None:
    ctx = make_context(tmp_path, make_run())
    model = ModelReport(path=f"{RUN_PATH}/model", digest="sha256-1")
    write_result(ctx, TrainResult(outcome="succeeded", attempt=0, step=9, model=model))
    assert find_finished(ctx) is None
    write_json(ctx.run_dir / "model" / "modelyard.json", {"digest": "sha256-1"})
    assert find_finished(ctx) is not None
    write_json(ctx.run_dir / "model" / "modelyard.json", {"digest": "sha256-2"})
    assert find_finished(ctx) is None


def test_only_a_finished_result_ends_a_later_attempt_at_once(tmp_path: Path) -> None:
    ctx = make_context(tmp_path, make_run())
    assert find_finished(ctx) is None
    write_result(ctx, TrainResult(outcome="preempted", attempt=0, step=9))
    assert find_finished(ctx) is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate"),
            "CUDAOutOfMemory",
        ),
        (MemoryError(), "HostOutOfMemory"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), "StorageFull"),
        (
            RuntimeError(
                "[enforce fail at inline_container.cc] . PytorchStreamWriter failed writing file data/3"
            ),
            "StorageFull",
        ),
        (RuntimeError("something else"), None),
    ],
)
def test_errors_of_torch_and_of_the_disk_get_their_reason(error: BaseException, reason: str | None) -> None:
    found = explain(error)
    assert (found.reason if found else None) == reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("num_samples should be positive"), "StartFailed"),
        (IndexError("index out of range in self"), "StartFailed"),
        (ImportError("no flash", name="flash_attn.ops"), "StartFailed"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), "StorageFull"),
        (ConnectionResetError("peer"), None),
        (RuntimeError("[rank1]: Connection closed by peer [10.0.0.1]:2"), None),
        (RuntimeError("NCCL error: unhandled system error"), None),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), None),
        (TimeoutError("rendezvous"), None),
    ],
)
def test_what_the_libraries_refuse_before_the_first_step_is_fatal_and_what_passes_is_not(
    error: BaseException, reason: str | None
) -> None:
    found = explain_start(error)
    assert (found.reason if found else None) == reason
    assert found is None or not found.temporary


def test_a_missing_package_is_named_by_its_distribution() -> None:
    found = explain_start(ImportError("cannot import name x", name="flash_attn.ops.x"))
    assert found is not None and "the image has no package flash_attn" in found.message


def test_a_card_tells_of_a_missed_gate_and_compares_with_the_baseline() -> None:
    manifest = {
        "name": "intents", "task": "text-classification", "digest": "sha256-1", "step": 3,
        "base": {"uri": "hf://org/base"}, "job": {"namespace": "team", "name": "job"},
        "metrics": {"eval_f1": 0.5}, "baseline": {"eval_f1": 0.25},
        "gate": {"metric": "eval_f1", "value": 0.5, "threshold": 0.9, "passed": False},
    }  # fmt: skip
    card = write_card(manifest, {"sources": [], "splits": {}, "digest": "sha256-2"})
    assert "base_model: org/base" in card and "did not pass its gate" in card
    assert "| | validation | untrained, validation |" in card and "| f1 | 0.5 | 0.25 |" in card
