"""Dashboard of one job: its curves, speed, attempts, checkpoints, goodput and cost."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import AnnotationQuery, Dashboard
from grafana_foundation_sdk.models import units

from dashboards.board import IN_SIGHT, add_row, build_board, choose_one
from dashboards.expressions import of_job
from dashboards.panels import (
    DATASOURCE,
    MORE_IS_BETTER,
    NONE_IS_WELL,
    Query,
    bars,
    curves,
    number,
    states,
)

_POD = 'namespace="$namespace", trainingjob="$name"'
# Many programs report from their first process only; the agents of the other pods would draw a line at nothing.
_REPORTING = f"and on (namespace, pod) modelyard_training_last_report_timestamp_seconds{{{_POD}}} > 0"


def build() -> Dashboard:
    """The dashboard `modelyard-job`."""
    board = build_board(
        "job",
        "Job",
        "One TrainingJob from its first pod to its end: progress, curves, speed, attempts, checkpoints, goodput, cost.",
        choose_one("namespace", "Namespace", "label_values(modelyard_trainingjob_info, namespace)"),
        choose_one("name", "Name", 'label_values(modelyard_trainingjob_info{namespace="$namespace"}, name)'),
    )
    board.annotation(
        _mark("Attempts", "attempt", "attempt_start_timestamp_seconds", "Attempt {{number}}", "blue")
    )
    checkpoints = _mark(
        "Checkpoints",
        "checkpoint_step",
        "checkpoint_timestamp_seconds",
        "Checkpoint at step {{number}}",
        "green",
    )
    board.annotation(checkpoints.enable(False))
    _add_overview(board)
    _add_curves(board)
    _add_speed(board)
    _add_attempts(board)
    _add_checkpoints(board)
    _add_goodput(board)
    _add_data(board)
    _add_pods(board)
    return board


def _mark(name: str, metric: str, moment: str, text: str, color: str) -> AnnotationQuery:
    """A mark where `metric` changed, at the time that `moment` has for it, which no scrape's interval blurs."""
    numbered = f'count_values("number", {of_job(metric)})'
    return (
        AnnotationQuery()
        .name(name)
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(color)
        .expr(f"1000 * {of_job(moment)} * on () group_right () {numbered}")
        .use_value_for_time(True)
        .title_format(text)
        .placement(IN_SIGHT)
        .step("10s")
    )


def _add_overview(board: Dashboard) -> None:
    add_row(
        board, "Now",
        number("Phase", "None where the job has ended or has no pods yet.", units.Number,
               Query(of_job("phase", "phase"), "{{phase}}"), named=True),
        number("Progress", "Steps done of those to do.", units.PercentUnit,
               Query(f"{of_job('step')} / {of_job('max_steps')}"), last_known=True),
        number("Time left", "To the end of training, at the present speed.", units.DurationSeconds,
               Query(f"clamp_min({of_job('estimated_completion_timestamp_seconds')} - time(), 0)")),
        number("Attempt", "Index of the current or last attempt.", units.Number, Query(of_job("attempt")),
               last_known=True),
        number("Interruptions", "What ended attempts or restarted processes.", units.Short,
               Query(f"sum({of_job('interruptions', 'cause')})"), last_known=True),
        number("Lost steps", "Done and not saved when attempts ended.", units.Short, Query(of_job("lost_steps")),
               steps=NONE_IS_WELL, last_known=True),
        number("Belongs to", "Project and team, by the job's labels.", units.Number,
               Query(of_job("info", "project", "team"), "{{project}} {{team}}"), named=True, last_known=True),
        number("Trains", "Task and profile.", units.Number,
               Query(of_job("info", "task", "profile"), "{{task}}, profile {{profile}}"), named=True,
               last_known=True),
        number("Checkpoint age", "Since the newest verified checkpoint: what an interruption would cost now.",
               units.DurationSeconds, Query(f"time() - {of_job('checkpoint_timestamp_seconds')}")),
        number("Goodput", "Productive share of the job's time.", units.PercentUnit,
               Query(of_job("goodput_ratio")), steps=MORE_IS_BETTER, last_known=True),
        number("Cost", "So far, by the profile's prices.", units.Number,
               Query(of_job("cost", "currency"), "{{currency}}"), last_known=True),
        number("Forecast", "What it will have cost at its estimated end.", units.Number,
               Query(of_job("cost_forecast", "currency"), "{{currency}}"), last_known=True),
    )  # fmt: skip


def _add_curves(board: Dashboard) -> None:
    add_row(
        board, "Curves",
        curves("Loss", "Of training as last logged, and of the validation split.", units.Number,
               Query(of_job("metric", "metric", where='metric=~"loss|eval_loss"'), "{{metric}}")),
        curves("Evaluation", "Metrics of the validation split.", units.Number,
               Query(of_job("metric", "metric", where='metric=~"eval_.+", metric!="eval_loss"'), "{{metric}}")),
        curves("Learning rate", "As last logged.", units.Number,
               Query(of_job("metric", where='metric="learning_rate"'), "learning rate"), width=8),
        curves("Gradient norm", "As last logged.", units.Number,
               Query(of_job("metric", where='metric="grad_norm"'), "gradient norm"), width=8),
        curves("Steps", "Done, saved, and to do.", units.Short, Query(of_job("step"), "done"),
               Query(of_job("checkpoint_step"), "saved"), Query(of_job("max_steps"), "to do"), width=8),
    )  # fmt: skip


def _add_speed(board: Dashboard) -> None:
    add_row(
        board, "Speed",
        curves("Rows", "Trained on per second, over all processes.", units.CountsPerSecond,
               Query(of_job("samples_per_second"), "rows"), width=8),
        curves("Tokens", "Trained on per second, over all processes.", units.CountsPerSecond,
               Query(of_job("tokens_per_second"), "tokens"), width=8),
        curves("Duration of a step", "Lately.", units.Seconds, Query(of_job("step_seconds"), "a step"), width=8),
    )  # fmt: skip


def _add_attempts(board: Dashboard) -> None:
    add_row(
        board, "Attempts",
        states("Phase", "One band for each phase that it was in.", {1: ("", "blue")},
               Query(of_job("phase", "phase"), "{{phase}}")),
        states("Conditions", "True and False as the job's status has them.",
               {0: ("False", "orange"), 1: ("True", "green")}, Query(of_job("condition", "type"), "{{type}}")),
        curves("Pods", "Of the running attempt.", units.Short, Query(of_job("pods", "state"), "{{state}}"), width=8),
        curves("Interruptions by cause", "So far.", units.Short, Query(of_job("interruptions", "cause"), "{{cause}}"),
               width=8),
        curves("Lost steps", "Done and not saved when attempts ended, so far.", units.Short,
               Query(of_job("lost_steps"), "lost"), width=8),
    )  # fmt: skip


def _add_checkpoints(board: Dashboard) -> None:
    add_row(
        board, "Checkpoints",
        curves("Age of the newest checkpoint", "Beside how much may be lost by checkpoint.every.", units.Seconds,
               Query(f"time() - {of_job('checkpoint_timestamp_seconds')}", "age"),
               Query(of_job("checkpoint_max_lost_seconds"), "allowed")),
        curves("Steps that are not saved", "What an interruption without a word would cost.", units.Short,
               Query(f"{of_job('step')} - ({of_job('checkpoint_step')} or vector(0))", "steps")),
    )  # fmt: skip


def _add_goodput(board: Dashboard) -> None:
    add_row(
        board, "Goodput and cost",
        curves("Time by state", "What the job's time went into, so far.", units.DurationSeconds,
               Query(of_job("state_seconds", "state"), "{{state}}"), stacked=True),
        curves("Goodput", "Productive share of the job's time, so far.", units.PercentUnit,
               Query(of_job("goodput_ratio"), "goodput")).min(0).max(1),
        curves("Cost", "By the profile's prices: so far, and at the estimated end.", units.Number,
               Query(of_job("cost", "currency"), "{{currency}} so far"),
               Query(of_job("cost_forecast", "currency"), "{{currency}} forecast")),
        curves("Resource hours", "What its pods have set aside: hours of cores, GiB, devices.", units.Hours,
               Query(of_job("resource_hours", "resource"), "{{resource}}")),
    )  # fmt: skip


def _add_data(board: Dashboard) -> None:
    add_row(
        board, "Data",
        bars("Rows", "That preparation read and left.", units.Short, Query(of_job("rows", "state"), "{{state}}"),
             width=12, last_known=True),
        bars("Data warnings", "What looks wrong in the data; status.data.warnings says what to do.", units.Short,
             Query(of_job("data_warning", "reason"), "{{reason}}"), steps=((None, "orange"),), width=12,
             last_known=True),
    )  # fmt: skip


def _add_pods(board: Dashboard) -> None:
    """What the pods' own endpoints have (the chart's PodMonitor); finer, and gone with the pods."""
    add_row(
        board, "The pods' own series (metrics.podMonitor)",
        curves("Metrics", "Every metric as the program last logged it, by pod.", units.Number,
               Query(f"modelyard_training_metric{{{_POD}}}", "{{name}} {{pod}}")),
        curves("Steps", "As the pods say at each scrape.", units.Short,
               Query(f"modelyard_training_step{{{_POD}}} {_REPORTING}", "done {{pod}}"),
               Query(f"modelyard_training_max_steps{{{_POD}}} {_REPORTING}", "to do {{pod}}"),
               Query(f"modelyard_training_checkpoint_step{{{_POD}}}", "{{kind}} checkpoint {{pod}}")),
        curves("Epoch", "Passes over the training data.", units.Number,
               Query(f"modelyard_training_epoch{{{_POD}}}", "{{pod}}"), width=6),
        curves("Duration of a step", "Lately.", units.Seconds,
               Query(f"modelyard_training_step_seconds{{{_POD}}}", "{{pod}}"), width=6),
        curves("Since the last report", "A program that hangs reports nothing.", units.Seconds,
               Query(f"time() - (modelyard_training_last_report_timestamp_seconds{{{_POD}}} > 0)", "{{pod}}"), width=6),
        curves("Restarts in place", "Of processes, by pod.", units.Short,
               Query(f"modelyard_training_process_restarts_total{{{_POD}}}", "{{pod}}"), width=6),
        collapsed=True,
    )  # fmt: skip
