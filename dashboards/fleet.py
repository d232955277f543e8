"""Dashboard of all jobs: what runs, for whom, how well, and what it costs."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from dashboards.board import add_row, build_board, choose_many
from dashboards.expressions import (
    KIND,
    OWNERS,
    counted,
    name_nobody,
    of_jobs,
    once,
    or_zero,
    over,
    owned,
    resources,
)
from dashboards.panels import (
    MORE_IS_BETTER,
    NONE_IS_WELL,
    Column,
    Query,
    bars,
    curves,
    number,
    rows,
)

_PHASES = resources("phase", where=KIND)
_PRODUCTIVE = counted("job_state_seconds_total", 'state="productive"')
_ALL_TIME = counted("job_state_seconds_total", 'state!="queued"')
_JOB_PAGE = (
    "/d/modelyard-job?${datasource:queryparam}"
    "&var-namespace=${__data.fields.Namespace}&var-name=${__data.fields.Name}&${__url_time_range}"
)


_STALLED = once("condition", where='type="Stalled"')
_BEGUN = once("attempt_start_timestamp_seconds")
_SAVED = f"({once('checkpoint_timestamp_seconds')} > {_BEGUN} or {_BEGUN})"
_READY = over("max_over_time", "condition", "10m", where='type="PodsReady"')
_STEPS = over("changes", "step", "30m")
_TRAINS = once("phase", where='phase="Training"')
_ALLOWED = once("checkpoint_max_lost_seconds")
# What is wrong with a job, and the jobs with which it is so. The last two are as the alerts have them.
_PROBLEMS = {
    "stalled": f"{_STALLED} == 1",
    "pods don't run for ten minutes": f"{_READY} == 0 and time() - {_BEGUN} > 600",
    "no step for half an hour": f"{_STEPS} == 0 and {_TRAINS} and time() - {_BEGUN} > 1800",
    "the newest checkpoint is too old": f"time() - {_SAVED} > 2 * {_ALLOWED} + 300 and {_TRAINS}",
}


def _name_problem(problem: str, jobs: str) -> str:
    return f'label_replace({owned(jobs)}, "problem", "{problem}", "", "")'


def build() -> Dashboard:
    """The dashboard `modelyard-fleet`."""
    board = build_board(
        "fleet",
        "Fleet",
        "All TrainingJobs: phases, owners, goodput, interruptions, cost, and which of them need somebody.",
        choose_many(
            "namespace", "Namespace", "label_values(modelyard_trainingjob_info, namespace)"
        ).description(
            "Of the running jobs. Phases, and what is counted over the time shown, are by owner, for all namespaces."
        ),
        choose_many("project", "Project", "label_values(modelyard_resources, project)"),
        choose_many("team", "Team", "label_values(modelyard_resources, team)"),
    )
    _add_overview(board)
    _add_jobs(board)
    _add_goodput(board)
    _add_cost(board)
    return board


def _add_overview(board: Dashboard) -> None:
    add_row(
        board, "Now",
        number(
            "Jobs with pods", "From a job's first pod to its end.", units.Short, Query(f"count({OWNERS})"), empty="0"
        ),
        number(
            "Failed", "Failed jobs that are still there.", units.Short,
            Query(or_zero(resources(where=f'phase="Failed", {KIND}'))),
            steps=NONE_IS_WELL,
        ),
        number(
            "Goodput", "Productive share of the jobs' time, over the time shown.",
            units.PercentUnit, Query(f"sum({_PRODUCTIVE}) / sum({_ALL_TIME})"), steps=MORE_IS_BETTER,
        ),
        number(
            "Cost", "By the profiles' prices, over the time shown.", units.Short,
            Query(f"sum by (currency) ({counted('job_cost_total')})", "{{currency}}"),
        ),
        number(
            "Interruptions", "What ended attempts or restarted processes, over the time shown.", units.Short,
            Query(f"sum({counted('job_interruptions_total')})"),
        ),
        number(
            "Lost steps", "Done and not saved when an attempt ended, over the time shown.", units.Short,
            Query(f"sum({counted('job_lost_steps_total')})"),
        ),
        rows(
            "Running jobs", "Jobs that have pods. The name leads to the job's own dashboard.",
            (
                Column("Namespace", "namespace"),
                Column("Name", "name", link=_JOB_PAGE),
                Column("Project", "project"),
                Column("Team", "team"),
                Column("Task", "task"),
                Column("Profile", "profile"),
                Column("Phase", "phase"),
                Column("Progress", "progress", units.PercentUnit, bar=True),
                Column("Time left", "left", units.DurationSeconds),
                Column("Loss", "loss", units.Number),
                Column("Rows/s", "rows", units.Number),
                Column("Attempt", "attempt"),
                Column("Interruptions", "interruptions"),
                Column("Checkpoint age", "checkpoint", units.DurationSeconds),
                Column("Goodput", "goodput", units.PercentUnit, MORE_IS_BETTER),
                Column("Cost", "cost", units.Number),
                Column("Forecast", "forecast", units.Number),
                Column("Currency", "currency"),
            ),
            {
                "info": of_jobs("info", "task", "profile"),
                "phases": of_jobs("phase", "phase"),
                "progress": owned(f"{once('step')} / {once('max_steps')}"),
                "left": owned(f"clamp_min({once('estimated_completion_timestamp_seconds')} - time(), 0)"),
                "loss": of_jobs("metric", where='metric="loss"'),
                "rows": of_jobs("samples_per_second"),
                "attempt": of_jobs("attempt"),
                "interruptions": owned(f"sum by (namespace, name) ({once('interruptions', 'cause')})"),
                "checkpoint": owned(f"time() - {once('checkpoint_timestamp_seconds')}"),
                "goodput": of_jobs("goodput_ratio"),
                "cost": of_jobs("cost", "currency"),
                "forecast": of_jobs("cost_forecast", "currency"),
            },
        ),
        rows(
            "Jobs that need a look", "Jobs with pods that don't get on, and why; the job's conditions say what to do.",
            (
                Column("Namespace", "namespace"),
                Column("Name", "name", link=_JOB_PAGE),
                Column("Project", "project"),
                Column("Team", "team"),
                Column("Problem", "problem"),
            ),
            {"problems": " or ".join(_name_problem(*problem) for problem in _PROBLEMS.items())},
            height=6,
        ),
    )  # fmt: skip


def _add_jobs(board: Dashboard) -> None:
    add_row(
        board, "Jobs",
        curves("By phase", "All jobs that there are, those that have ended too.", units.Short,
               Query(_PHASES, "{{phase}}"), width=8, stacked=True),
        curves("With pods, by project", "From a job's first pod to its end.", units.Short,
               Query(name_nobody("project", f"count by (project) ({OWNERS})"), "{{project}}"), width=8, stacked=True),
        curves("With pods, by team", "From a job's first pod to its end.", units.Short,
               Query(name_nobody("team", f"count by (team) ({OWNERS})"), "{{team}}"), width=8, stacked=True),
        bars("Ended", "Jobs that ended over the time shown, by team and how.", units.Short,
             Query(name_nobody("team", f"sum by (team, phase) ({counted('jobs_ended_total')})"), "{{team}} {{phase}}"),
             width=24),
    )  # fmt: skip


def _add_goodput(board: Dashboard) -> None:
    add_row(
        board, "Goodput and interruptions",
        curves(
            "What jobs' time goes into", "Jobs in each state, on average.", units.Short,
            Query(f"sum by (state) (rate(modelyard_job_state_seconds_total{{{KIND}}}[$__rate_interval]))", "{{state}}"),
            stacked=True,
        ),
        curves(
            "Interruptions by cause", "What ended attempts or restarted processes.", units.Short,
            Query(
                f"sum by (cause) (increase(modelyard_job_interruptions_total{{{KIND}}}[$__rate_interval]))", "{{cause}}"
            ),
            stacked=True,
        ),
        bars(
            "Goodput by team", "Productive share of the jobs' time, over the time shown.",
            units.PercentUnit,
            Query(name_nobody("team", f"sum by (team) ({_PRODUCTIVE}) / sum by (team) ({_ALL_TIME})"), "{{team}}"),
            steps=MORE_IS_BETTER,
        ).max(1),
        bars(
            "Interruptions by team", "Over the time shown.", units.Short,
            Query(name_nobody("team", f"sum by (team) ({counted('job_interruptions_total')})"), "{{team}}"),
        ),
        bars(
            "Lost steps by team", "Done and not saved when an attempt ended, over the time shown.", units.Short,
            Query(name_nobody("team", f"sum by (team) ({counted('job_lost_steps_total')})"), "{{team}}"),
        ),
    )  # fmt: skip


def _add_cost(board: Dashboard) -> None:
    add_row(
        board, "Cost",
        bars(
            "Cost by team", "By the profiles' prices, over the time shown.", units.Number,
            Query(
                name_nobody("team", f"sum by (team, currency) ({counted('job_cost_total')})"), "{{team}} {{currency}}"
            ),
        ),
        bars(
            "What running jobs will have cost", "At their estimated ends, by team.", units.Number,
            Query(
                name_nobody("team", f"sum by (team, currency) ({of_jobs('cost_forecast', 'currency')})"),
                "{{team}} {{currency}}",
            ),
        ),
        bars(
            "Resource hours", "What pods have set aside over the time shown: hours of cores, GiB, devices.",
            units.Hours, Query(f"sum by (resource) ({counted('job_resource_hours_total')})", "{{resource}}"),
        ),
    )  # fmt: skip
