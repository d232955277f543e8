"""Dashboard of the operator: does it lead, keep up, and get on with the API server?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from dashboards.board import add_row, build_board, choose_many
from dashboards.expressions import or_zero, quantile, resources
from dashboards.panels import NONE_IS_WELL, Query, curves, number, states

_CHOSEN = 'instance=~"$instance"'
_QUEUE = f'name="reconcile", {_CHOSEN}'
# Metrics of queues and processes have the same names in many programs.
_OURS = f"and on (instance, job) modelyard_leader{{{_CHOSEN}}}"
_TWO_QUANTILES = "Half of them took less than the lower, 99 of 100 less than the upper line."


def build() -> Dashboard:
    """The dashboard `modelyard-operator`."""
    board = build_board(
        "operator",
        "Operator",
        "The operator's health: leadership, queue, passes, API calls, watches, probes, process.",
        choose_many("instance", "Instance", "label_values(modelyard_leader, instance)"),
    )
    _add_health(board)
    _add_queue(board)
    _add_passes(board)
    _add_calls(board)
    _add_views(board)
    _add_process(board)
    return board


def _two_quantiles(histogram: str, label: str = "", where: str = _CHOSEN) -> list[Query]:
    labels = (label,) if label else ()
    named = f"{{{{{label}}}}} " if label else ""
    return [
        Query(quantile(0.5, histogram, *labels, where=where), f"{named}p50"),
        Query(quantile(0.99, histogram, *labels, where=where), f"{named}p99"),
    ]


def _add_health(board: Dashboard) -> None:
    add_row(
        board, "Health",
        number(
            "Leaders", "Operators that hold the Lease. With 0 nothing is started, restarted, judged or reported.",
            units.Short, Query(f"sum(modelyard_leader{{{_CHOSEN}}})"),
            steps=((None, "red"), (1, "green"), (2, "red")),
        ),
        number(
            "Operators", "Operators that are scraped; those that don't lead wait with a full cache.", units.Short,
            Query(f"count(modelyard_leader{{{_CHOSEN}}})"), steps=((None, "red"), (1, "green")), empty="0",
        ),
        number(
            "Running since", "When the oldest of the operators started.", units.DateTimeFromNow,
            Query(f"1000 * min(process_start_time_seconds {_OURS})"),
        ),
        number(
            "Kinds not in the cache", "Kinds that the cache doesn't have whole yet; the operator waits for them.",
            units.Short,
            Query(f"count(modelyard_cache_synced{{{_CHOSEN}}}) - sum(modelyard_cache_synced{{{_CHOSEN}}})"),
            steps=NONE_IS_WELL,
        ),
        number(
            "Resources", "Custom resources that the leader knows.", units.Short,
            Query(resources(where="")), empty="0",
        ),
        number(
            "Without own series", "Live resources beyond the thousand that have series of their own.",
            units.Short, Query(f"sum(modelyard_unmeasured_resources{{{_CHOSEN}}})"), steps=NONE_IS_WELL,
        ),
        states(
            "Who leads", "One band an operator.", {0: ("waits", "text"), 1: ("leads", "green")},
            Query(f"modelyard_leader{{{_CHOSEN}}}", "{{instance}}"), width=24,
        ).height(5),
    )  # fmt: skip


def _add_queue(board: Dashboard) -> None:
    add_row(
        board, "Queue",
        curves(
            "Keys", "Resources that wait for a worker.", units.Short,
            Query(f"sum by (instance) (workqueue_depth{{{_QUEUE}}} {_OURS})", "{{instance}}"),
        ),
        curves(
            "Time in the queue", f"From the change of a resource to its pass. {_TWO_QUANTILES}", units.Seconds,
            *_two_quantiles("workqueue_queue_duration_seconds", where=_QUEUE),
        ),
        curves(
            "Keys put in", "By changes, and again after failures.", units.CountsPerSecond,
            Query(f"sum(rate(workqueue_adds_total{{{_QUEUE}}}[$__rate_interval]) {_OURS})", "changes"),
            Query(f"sum(rate(workqueue_retries_total{{{_QUEUE}}}[$__rate_interval]) {_OURS})", "after failures"),
        ),
        curves(
            "Running passes", "How long those that run now have taken: the slowest, and all of them.", units.Seconds,
            Query(f"max(workqueue_longest_running_processor_seconds{{{_QUEUE}}} {_OURS})", "slowest"),
            Query(f"sum(workqueue_unfinished_work_seconds{{{_QUEUE}}} {_OURS})", "all"),
        ),
    )  # fmt: skip


def _add_passes(board: Dashboard) -> None:
    add_row(
        board, "Passes",
        curves(
            "Passes", "By kind and how they ended.", units.CountsPerSecond,
            Query(
                f"sum by (kind, outcome) (rate(modelyard_reconciles_total{{{_CHOSEN}}}[$__rate_interval]))",
                "{{kind}} {{outcome}}",
            ),
        ),
        curves(
            "Duration of passes", f"By kind. {_TWO_QUANTILES}", units.Seconds,
            *_two_quantiles("modelyard_reconcile_seconds", "kind"),
        ),
        curves(
            "Writes", "Of the engine, by kind and operation. None for what is at rest.", units.CountsPerSecond,
            Query(
                f"sum by (kind, operation) (rate(modelyard_writes_total{{{_CHOSEN}}}[$__rate_interval]))",
                "{{kind}} {{operation}}",
            ),
        ),
        curves(
            "Refused statuses", "Statuses that the API server refused: they stand still.", units.Short,
            Query(or_zero(f"sum(increase(modelyard_refused_writes_total{{{_CHOSEN}}}[$__rate_interval]))"), "refused"),
        ),
    )  # fmt: skip


def _add_calls(board: Dashboard) -> None:
    calls = f"modelyard_api_requests_total{{{_CHOSEN}}}[$__rate_interval]"
    well = f'modelyard_api_requests_total{{code!~"0|5..", {_CHOSEN}}}[$__rate_interval]'
    add_row(
        board, "API server",
        curves(
            "Calls", "By method and resource; watches count when they end.", units.RequestsPerSecond,
            Query(f"sum by (method, resource) (rate({calls}))", "{{method}} {{resource}}"),
        ),
        curves(
            "Duration of calls", f"By method. {_TWO_QUANTILES}", units.Seconds,
            *_two_quantiles("modelyard_api_request_seconds", "method"),
        ),
        curves(
            "Answers", "By HTTP status; 0 stands for no answer.", units.RequestsPerSecond,
            Query(f"sum by (code) (rate({calls}))", "{{code}}"), width=8,
        ),
        curves(
            "Calls that fail", "The share without an answer or with a server's error. They are repeated.",
            units.PercentUnit, Query(f"1 - sum(rate({well})) / sum(rate({calls}))", "failed"), width=8,
        ).min(0),
        curves(
            "Throttled", "Answers that asked to slow down (429).", units.RequestsPerSecond,
            Query(f"sum(rate(modelyard_api_throttled_total{{{_CHOSEN}}}[$__rate_interval]))", "throttled"), width=8,
        ),
    )  # fmt: skip


def _add_views(board: Dashboard) -> None:
    add_row(
        board, "What it sees",
        curves(
            "Objects in the cache", "By kind. Each operator has a cache of its own.", units.Short,
            Query(f"max by (kind) (modelyard_cache_objects{{{_CHOSEN}}})", "{{kind}}"),
        ),
        curves(
            "Deletions that watches missed", "Found when a watch began anew.", units.Short,
            Query(or_zero(f"sum(increase(modelyard_watch_missed_total{{{_CHOSEN}}}[$__rate_interval]))"), "missed"),
        ),
        curves(
            "Questions to pods", "By result: the report has changed, is the same, or none came.",
            units.RequestsPerSecond,
            Query(f"sum by (result) (rate(modelyard_probes_total{{{_CHOSEN}}}[$__rate_interval]))", "{{result}}"),
        ),
        curves(
            "Pods that are asked", "With many of them each is asked less often.", units.Short,
            Query(f"sum(modelyard_probes_active{{{_CHOSEN}}})", "pods"),
            Query(f"max(modelyard_probe_interval_seconds{{{_CHOSEN}}})", "seconds between two questions"),
        ),
    )  # fmt: skip


def _add_process(board: Dashboard) -> None:
    add_row(
        board, "Process",
        curves(
            "CPU", "Cores in use.", units.Short,
            Query(f"rate(process_cpu_seconds_total[$__rate_interval]) {_OURS}", "{{instance}}"), width=8,
        ),
        curves(
            "Memory", "Resident.", units.BytesIEC,
            Query(f"process_resident_memory_bytes {_OURS}", "{{instance}}"), width=8,
        ),
        curves(
            "Open files", "And how many there may be.", units.Short,
            Query(f"process_open_fds {_OURS}", "{{instance}}"), Query(f"process_max_fds {_OURS}", "{{instance}} limit"),
            width=8,
        ),
    )  # fmt: skip
