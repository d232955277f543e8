"""One attempt on one rank: builds the Trainer, trains, judges, exports, tells the result."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist
from modelyard.contract import codes
from modelyard.contract.layout import attempt_dir
from modelyard.contract.report import Checkpoint, TrainResult
from modelyard_agent.client import Client
from modelyard_models.failure import Failure
from modelyard_models.padding import pads_left
from transformers import set_seed

from modelyard_trainer.context import Context
from modelyard_trainer.train.agreement import Agreement
from modelyard_trainer.train.dataset import Collator
from modelyard_trainer.train.devices import Devices
from modelyard_trainer.train.divergence import DivergenceGuard
from modelyard_trainer.train.evaluation import Baseline, FirstThings, load_best
from modelyard_trainer.train.explanation import explain_start
from modelyard_trainer.train.export import export_model
from modelyard_trainer.train.gate import judge
from modelyard_trainer.train.improvement import Improvement
from modelyard_trainer.train.prepared import Prepared, open_prepared
from modelyard_trainer.train.progress import ProgressReporter
from modelyard_trainer.train.ranks import Ranks
from modelyard_trainer.train.rehearsal import Rehearsal
from modelyard_trainer.train.results import write_result
from modelyard_trainer.train.resume import Beginning, find_beginning
from modelyard_trainer.train.saving import Saver
from modelyard_trainer.train.schedules import own_schedule
from modelyard_trainer.train.settings import Settings, resolve_settings
from modelyard_trainer.train.trainer import RunTrainer
from modelyard_trainer.train.universal import expect_universal
from modelyard_trainer.train.zero import stage_of

_VERIFY_SHARE = 0.7  # of the grace period, for hashing after a stop


@dataclass
class Session:
    """What the parts of an attempt share."""

    ctx: Context
    ranks: Ranks
    prepared: Prepared
    trainer: RunTrainer
    agreement: Agreement
    saver: Saver
    baseline: Baseline
    beginning: Beginning | None
    client: Client | None

    def has_stepped(self) -> bool:
        """Whether this attempt has made a step of its own."""
        return bool(self.trainer.state.global_step > (self.beginning.step if self.beginning else 0))

    def result(self, outcome: str, **more: Any) -> TrainResult:
        """A result with what is known anyway."""
        state = self.trainer.state
        return TrainResult(
            outcome=outcome,
            attempt=self.ctx.attempt,
            node=self.ctx.node,
            step=state.global_step,
            max_steps=state.max_steps,
            resumed_from=self.beginning.step if self.beginning else None,
            baseline=self.baseline.validation,
            baseline_test=self.baseline.test,
            **more,
        )


def train(ctx: Context, devices: Devices) -> None:
    """Trains to the end, or to an agreed stop. Raises Failure."""
    session: Session | None = None
    try:
        session = build(ctx, devices)
        beginning = session.beginning
        session.trainer.train(resume_from_checkpoint=str(beginning.source) if beginning else None)
    except Failure:
        raise
    except Exception as error:
        known = None if session is not None and session.has_stepped() else explain_start(error)
        if known is None:
            raise
        raise known from error
    result = _stop(session) if session.agreement.stopped else _finish(session)
    write_result(ctx, result)
    if session.client is not None:
        session.client.close()
    session.ranks.wait()  # nobody leaves while another still needs it
    if dist.is_initialized():
        dist.destroy_process_group()


def build(ctx: Context, devices: Devices) -> Session:
    """Everything up to the first step. Raises Failure."""
    run = ctx.run
    # Before the arguments, which make ZeRO-3 shard whatever model is built from then on.
    prepared = open_prepared(ctx)
    settings = _resolve(ctx, devices, prepared)
    args = settings.make_arguments()
    ranks = Ranks.join(ctx.rank, ctx.world_size, devices.gpu)
    beginning = find_beginning(ctx, ranks, stage_of(settings.deepspeed))
    set_seed(settings.training.seed)
    tokenizer, model = prepared.load(settings.precision)
    client = Client(ctx.agent_port) if ctx.local_rank == 0 else None
    saver = Saver(ctx, ranks, client, run.gate.metric if run.gate else "eval_loss")
    has_validation = bool(len(prepared.splits.validation))
    stop_file = ctx.runtime / codes.STOP_FILE
    agreement = Agreement(ranks, stop_file, saver.due, run.checkpoint.on_signal, has_validation)
    baseline = Baseline.recall(ctx.run_dir, ranks)
    first = FirstThings(
        baseline if settings.training.args.get("eval_on_start") else None,
        prepared.splits,
        agreement,
        saver,
        lambda: _forget_conversion(trainer, ranks, beginning),
        None if beginning else _make_rehearsal(ctx, settings, prepared, ranks),
    )
    reporter = _make_reporter(ctx, settings, prepared, client) if client is not None else None
    improvement = Improvement(run.gate, prepared.task, run.checkpoint.keep_best > 0) if run.gate else None
    callbacks = [agreement, reporter, DivergenceGuard(), improvement, first]
    trainer = RunTrainer(
        model=model,
        args=args,
        train_dataset=prepared.splits.train,
        eval_dataset=prepared.splits.validation if has_validation else None,
        data_collator=_make_collator(tokenizer, model, devices, prepared),
        processing_class=tokenizer,
        callbacks=[c for c in callbacks if c is not None],
        task=prepared.task,
        ranks=ranks,
        saver=saver,
        reporter=reporter,
        make_schedule=own_schedule(settings.training.lr_scheduler_type, dict(args.lr_scheduler_kwargs or {})),
        is_over=lambda: improvement is not None and improvement.stopped,
    )
    first.trainer = trainer
    if beginning is not None and beginning.universal is not None:
        expect_universal(trainer, True)
    return Session(ctx, ranks, prepared, trainer, agreement, saver, baseline, beginning, client)


def _resolve(ctx: Context, devices: Devices, prepared: Prepared) -> Settings:
    splits = prepared.splits
    return resolve_settings(
        ctx.run,
        prepared.task,
        devices,
        ctx.storage / attempt_dir(ctx.run_path, ctx.attempt),
        train_rows=len(splits.train),
        validation_rows=len(splits.validation),
        world_size=ctx.world_size,
    )


def _make_rehearsal(ctx: Context, settings: Settings, prepared: Prepared, ranks: Ranks) -> Rehearsal:
    folder = ctx.storage / attempt_dir(ctx.run_path, ctx.attempt)
    return Rehearsal(prepared.task, settings, prepared.splits, ranks, prepared.base.vocabulary, folder)


def _make_collator(tokenizer: Any, model: Any, devices: Devices, prepared: Prepared) -> Collator:
    return Collator(
        tokenizer.pad_token_id,
        prepared.task.labelled,
        8 if devices.gpu else 1,
        pads_left(model.config.model_type),
        prepared.base.positions,
    )


def _make_reporter(ctx: Context, settings: Settings, prepared: Prepared, client: Client) -> ProgressReporter:
    training = settings.training
    rows = training.per_device_train_batch_size * training.gradient_accumulation_steps * ctx.world_size
    return ProgressReporter(client, prepared.task, rows, prepared.splits.train.mean_length)


def _forget_conversion(trainer: RunTrainer, ranks: Ranks, beginning: Beginning | None) -> None:
    """Deletes what was converted for this world size, once it is loaded."""
    if beginning is None or beginning.universal is None:
        return
    expect_universal(trainer, False)
    ranks.wait()
    if ranks.leads:
        shutil.rmtree(beginning.universal, ignore_errors=True)


def _stop(session: Session) -> TrainResult:
    """The end of an attempt that was asked to stop: nothing is lost once the last step is verified."""
    step = session.trainer.state.global_step
    saved: Checkpoint | None = None
    if session.ranks.leads:
        if session.saver.last_step == step:
            saved = session.saver.wait(step, max(5.0, session.ctx.grace_seconds * _VERIFY_SHARE))
        else:
            newest = session.saver.verified()
            saved = session.saver.describe(newest[0]) if newest else None
    saved = session.ranks.share(saved)
    kept = saved.step if saved else 0
    if session.ctx.run.checkpoint.on_signal and kept < step:
        raise Failure(
            "CheckpointUnverified",
            f"stopped at step {step}, but its checkpoint could not be verified; the next attempt goes on "
            "from "
            f"step {kept}; check the storage, or raise terminationGracePeriodSeconds",
            temporary=True,
        )
    return session.result(codes.PREEMPTED, last_checkpoint=saved, lost_steps=step - kept)


def _finish(session: Session) -> TrainResult:
    """Judges and exports. A stop between two of its parts ends it; the next attempt does them again."""
    trainer, gate, splits = session.trainer, session.ctx.run.gate, session.prepared.splits
    metrics: dict[str, float] = {}
    if len(splits.validation):
        if trainer.measured is None or trainer.measured[0] != trainer.state.global_step:
            trainer.evaluate()
        assert trainer.measured is not None  # noqa: S101 - evaluate() sets it
        metrics = trainer.measured[1]
    if session.agreement.asked_to_stop():
        return _stop(session)
    if gate is not None and session.ctx.run.checkpoint.keep_best > 0:
        world = session.ctx.world_size
        final = metrics.get(gate.metric, float("nan"))
        if load_best(trainer, session.ranks, session.saver, gate, world, final) is not None:
            metrics = trainer.measure(splits.validation)
    test = trainer.measure(splits.test) if len(splits.test) else {}
    if session.agreement.asked_to_stop():
        return _stop(session)
    judged = judge(gate, metrics) if gate is not None else None
    outcome = codes.GATE_FAILED if judged is not None and not judged.passed else codes.SUCCEEDED
    trainer.enter("exporting")
    last = best = None
    if session.ranks.leads:
        session.saver.settle()
        newest, ranked = session.saver.verified(), session.saver.ranked()
        last = session.saver.describe(newest[0]) if newest else None
        best = session.saver.describe(ranked[0]) if ranked else None
    result = session.result(
        outcome,
        metrics=metrics,
        test_metrics=test,
        gate=judged,
        last_checkpoint=last,
        best_checkpoint=best,
    )
    model = export_model(session.ctx, session.ranks, trainer, session.prepared, result)
    return result.model_copy(update={"model": model})
