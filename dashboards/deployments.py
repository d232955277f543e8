"""Dashboard of ModelDeployments: what callers get, what waits, how many servers there are, and what these do."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from dashboards.board import add_row, build_board, choose_many
from dashboards.expressions import or_zero, quantile
from dashboards.panels import NONE_IS_WELL, Column, Query, Steps, curves, number, rows, states
from dashboards.serving import (
    EACH,
    NAMED,
    PODS,
    add_up,
    by_name,
    failed_share,
    holds,
    mean,
    of_deployments,
    rate,
)

_PAGE = (
    "/d/modelyard-deployments?${datasource:queryparam}"
    "&var-namespace=${__data.fields.Namespace}&var-name=${__data.fields.Name}&${__url_time_range}"
)
_DURATION = "modelyard_gateway_request_duration_seconds"
_ANSWERED = f'outcome="ok", revision!="", {PODS}'
_THREE_QUANTILES = "Of 100, 50, 95 and 99 took less."
_FEW_IS_WELL: Steps = ((None, "green"), (0.001, "orange"), (0.01, "red"))
_MET: Steps = ((None, "red"), (1, "green"))
_READY, _STALLED = holds("Ready"), holds("Stalled")
_WANTED = of_deployments("replicas", where='state="desired"')
_SERVING = of_deployments("replicas", where='state="ready"')
_UNREADY = f"({_READY} == 0 unless {holds('Suspended')} == 1)"
_P95 = quantile(0.95, _DURATION, *EACH, where=_ANSWERED)
# What is wrong with a deployment, and the deployments with which it is so.
_PROBLEMS = {
    "no requests are answered": _UNREADY,
    "what the spec asks for can't be served": f"{_STALLED} == 1",
    "some servers are not ready": f"{_SERVING} < {_WANTED} and {_READY} == 1",
    "the number of servers doesn't follow what it should": f"{holds('ScalingReady')} == 0 and {_READY} == 1",
}


def _name_problem(problem: str, deployments: str) -> str:
    return f'label_replace({deployments}, "problem", "{problem}", "", "")'


def _name_reason() -> str:
    failing = of_deployments("failing_revisions", "reason")
    return f'label_replace({failing}, "problem", "servers of a revision fail", "", "")'


def build() -> Dashboard:
    """The dashboard `modelyard-deployments`."""
    board = build_board(
        "deployments",
        "Deployments",
        "ModelDeployments: requests, failures, latency, queues, servers and scaling, caches, batches, generation.",
        choose_many("namespace", "Namespace", "label_values(modelyard_modeldeployment_info, namespace)"),
        choose_many(
            "name", "Name", 'label_values(modelyard_modeldeployment_info{namespace=~"$namespace"}, name)'
        ),
    )
    _add_overview(board)
    _add_requests(board)
    _add_latency(board)
    _add_load(board)
    _add_servers(board)
    _add_cache(board)
    _add_batches(board)
    _add_generation(board)
    _add_processes(board)
    return board


def _three_quantiles(histogram: str, where: str = PODS) -> list[Query]:
    return [
        Query(quantile(share, histogram, where=where), f"p{share * 100:.0f}") for share in (0.5, 0.95, 0.99)
    ]


def _add_overview(board: Dashboard) -> None:
    add_row(
        board, "Now",
        number(
            "Deployments", "Those chosen that there are.", units.Short, Query(f"count({of_deployments('info')})"),
            empty="0",
        ),
        number(
            "Not ready", "Deployments that answer no requests, without those that users have suspended.", units.Short,
            Query(or_zero(f"count({_UNREADY})")), steps=NONE_IS_WELL,
        ),
        number(
            "Requests", "All that end, those that the gateways answer by themselves too.", units.RequestsPerSecond,
            Query(rate("modelyard_gateway_requests_total")),
        ),
        number(
            "Failed", "Share of requests without an answer or with a server's error, over the time shown.",
            units.PercentUnit, Query(failed_share(window="$__range")), steps=_FEW_IS_WELL,
        ),
        number(
            "p95", "95 of 100 requests were answered in less time.", units.Seconds,
            Query(quantile(0.95, _DURATION, where=_ANSWERED)),
        ),
        number("Servers", "Ready ones of the revisions that serve.", units.Short, Query(f"sum({_SERVING})")),
        rows(
            "All deployments", "The name leads to the deployment alone.",
            (
                Column("Namespace", "namespace"),
                Column("Name", "name", link=_PAGE),
                Column("Project", "project"),
                Column("Team", "team"),
                Column("Task", "task"),
                Column("Variant", "variant"),
                Column("Ready", "ready", steps=_MET),
                Column("Up to date", "current", steps=_MET),
                Column("Servers", "servers"),
                Column("Wanted", "wanted"),
                Column("Requests/s", "requests", units.Number),
                Column("Failed", "failed", units.PercentUnit, _FEW_IS_WELL),
                Column("p95", "latency", units.Seconds),
                Column("Queue", "queue"),
            ),
            {
                "info": of_deployments("info", "project", "team", "task", "variant"),
                "ready": _READY,
                "current": holds("UpToDate"),
                "servers": _SERVING,
                "wanted": _WANTED,
                "requests": by_name(rate("modelyard_gateway_requests_total", *EACH)),
                "failed": by_name(failed_share(*EACH)),
                "latency": by_name(_P95),
                "queue": by_name(add_up("modelyard_gateway_queued_requests", *EACH)),
            },
        ),
        rows(
            "Deployments that need a look", "And why; `modelyard status md/NAME` says what to do.",
            (
                Column("Namespace", "namespace"),
                Column("Name", "name", link=_PAGE),
                Column("Problem", "problem"),
                Column("Reason", "reason"),
            ),
            {
                "problems": " or ".join(
                    (*(_name_problem(*problem) for problem in _PROBLEMS.items()), _name_reason())
                )
            },
            height=6,
        ),
    )  # fmt: skip


def _add_requests(board: Dashboard) -> None:
    requests = "modelyard_gateway_requests_total"
    add_row(
        board, "Requests",
        curves(
            "By outcome", "refused is 4xx; unavailable 503 by the gateway; gone, callers that hung up.",
            units.RequestsPerSecond, Query(rate(requests, "outcome"), "{{outcome}}"), width=8, stacked=True,
        ),
        curves(
            "By deployment", "All that end.", units.RequestsPerSecond, Query(rate(requests, *EACH), NAMED), width=8,
            stacked=True,
        ),
        curves(
            "By revision", "Of those that a server had: how a new one takes over.", units.RequestsPerSecond,
            Query(rate(requests, *EACH, "revision", where='revision!=""'), f"{NAMED} {{{{revision}}}}"), width=8,
            stacked=True,
        ),
        curves(
            "Failed", "Share of requests without an answer or with a server's error.", units.PercentUnit,
            Query(failed_share(*EACH), NAMED), width=8,
        ).min(0),
        curves(
            "Turned away", "By why: full is traffic.maxQueue; no_server and no_room, none in traffic.timeoutSeconds.",
            units.RequestsPerSecond, Query(rate("modelyard_gateway_unavailable_total", "reason"), "{{reason}}"),
            width=8,
        ),
        curves(
            "Sent again, and above the rate", "By why they were sent to another server; 429 by traffic.rateLimit.",
            units.RequestsPerSecond, Query(rate("modelyard_gateway_retries_total", "reason"), "{{reason}}"),
            Query(rate("modelyard_gateway_rate_limited_total"), "above the rate"), width=8,
        ),
    )  # fmt: skip


def _add_latency(board: Dashboard) -> None:
    timeout = of_deployments("timeout_seconds")
    add_row(
        board, "Latency",
        curves(
            "From request to answer", f"At the gateways, of requests that were answered. {_THREE_QUANTILES}",
            units.Seconds, *_three_quantiles(_DURATION, _ANSWERED), width=8,
        ),
        curves(
            "p95 by deployment", "95 of 100 took less; of a stream, to its end.", units.Seconds, Query(_P95, NAMED),
            width=8,
        ),
        curves(
            "p95 of the timeout", "As a share of traffic.timeoutSeconds; of a stream that is to its first part only.",
            units.PercentUnit, Query(f"{by_name(_P95)} / {timeout}", "{{namespace}}/{{name}}"), width=8,
        ).min(0),
        curves(
            "In the servers", f"From a request's head to the end of its answer. {_THREE_QUANTILES}", units.Seconds,
            *_three_quantiles("vllm:e2e_request_latency_seconds"),
        ),
        curves(
            "Waiting in the servers", f"Until the model takes them. {_THREE_QUANTILES}", units.Seconds,
            *_three_quantiles("vllm:request_queue_time_seconds"),
        ),
    )  # fmt: skip


def _add_load(board: Dashboard) -> None:
    add_row(
        board, "Load",
        curves(
            "Held by gateways", "Requests that wait for a server.", units.Short,
            Query(add_up("modelyard_gateway_queued_requests", *EACH), NAMED), width=8,
        ),
        curves(
            "In flight", "Requests that a server has.", units.Short,
            Query(add_up("modelyard_gateway_running_requests", *EACH), NAMED), width=8,
        ),
        curves(
            "At the servers", "By what they do with them.", units.Short,
            Query(add_up("vllm:num_requests_running"), "computed"),
            Query(add_up("vllm:num_requests_waiting"), "wait"), width=8,
        ),
        curves(
            "Callers' connections", "Open ones, at all gateways.", units.Short,
            Query(add_up("modelyard_gateway_connections", *EACH), NAMED), width=12,
        ),
        curves(
            "New connections to servers", "Few, as long as connections can be used again.", units.CountsPerSecond,
            Query(rate("modelyard_gateway_upstream_connects_total", *EACH), NAMED), width=12,
        ),
    )  # fmt: skip


def _add_servers(board: Dashboard) -> None:
    named = "{{namespace}}/{{name}}"
    add_row(
        board, "Servers and revisions",
        curves(
            "Servers", "Of the revisions that serve: wanted, and ready.", units.Short,
            Query(of_deployments("replicas", "state"), f"{named} {{{{state}}}}"),
        ),
        curves(
            "Servers that the load asks for",
            "Within the bounds, where it decides their number; and how many there may be.", units.Short,
            Query(of_deployments("desired_replicas"), f"{named} asked for"),
            Query(of_deployments("max_replicas"), f"{named} at most"),
        ),
        states(
            "Conditions", "True and False as the deployments' statuses have them: Built, UpToDate and so on.",
            {0: ("False", "orange"), 1: ("True", "green")},
            Query(of_deployments("condition", "type"), f"{named} {{{{type}}}}"), width=24,
        ),
        states(
            "Why there are as many servers", "One band for each reason of the last decision.", {1: ("", "blue")},
            Query(of_deployments("scaling_reason", "reason"), f"{named} {{{{reason}}}}"),
        ),
        curves(
            "Revisions", "By state.", units.Short,
            Query(f"sum by (state) ({of_deployments('revisions', 'state')})", "{{state}}"),
        ),
        curves(
            "Servers that gateways know", "The least that one of them knows; they follow changes within a second.",
            units.Short,
            Query(f"min by (namespace, modeldeployment) (modelyard_gateway_servers{{{PODS}}})", NAMED), width=8,
        ),
        curves(
            "Ready servers by revision", "As they say themselves: they have given the model's own answers.",
            units.Short,
            Query(add_up("modelyard_server_ready", *EACH, "revision"), f"{NAMED} {{{{revision}}}}"), width=8,
        ),
        curves(
            "Restarts", "Of containers, gateways' and servers'.", units.Short,
            Query(
                f"sum by ({', '.join(EACH)}) (changes(process_start_time_seconds{{{PODS}}}[$__rate_interval]))", NAMED
            ), width=8,
        ),
    )  # fmt: skip


def _add_cache(board: Dashboard) -> None:
    kept, spared = "modelyard_gateway_cache_requests_total", 'result=~"hit|shared"'
    add_row(
        board, "Cache",
        curves(
            "Requests whose answer may be kept", "By result; shared with another that was under way.",
            units.RequestsPerSecond, Query(rate(kept, "result"), "{{result}}"), stacked=True,
        ),
        curves(
            "Hits", "Share of them that no server had to compute.", units.PercentUnit,
            Query(f"{rate(kept, *EACH, where=spared)} / {rate(kept, *EACH)}", NAMED),
        ).min(0).max(1),
    )  # fmt: skip


def _add_batches(board: Dashboard) -> None:
    tokens = "modelyard_server_tokens_total"
    add_row(
        board, "Batches (classification and embeddings)",
        curves(
            "Rows of a batch", "Mean of those computed lately.", units.Short,
            Query(mean("modelyard_server_batch_rows", *EACH), NAMED), width=8,
        ),
        curves(
            "Duration of a batch", _THREE_QUANTILES, units.Seconds,
            *_three_quantiles("modelyard_server_batch_seconds"), width=8,
        ),
        curves(
            "Tokens", "Of texts, and of the padding between them, which is computed for nothing.",
            units.CountsPerSecond, Query(rate(tokens, "kind"), "{{kind}}"), width=8, stacked=True,
        ),
        curves(
            "Answers of servers", "By protocol and HTTP status.", units.RequestsPerSecond,
            Query(rate("modelyard_server_answers_total", "protocol", "code"), "{{protocol}} {{code}}"), width=24,
        ),
    )  # fmt: skip


def _add_generation(board: Dashboard) -> None:
    add_row(
        board, "Generation",
        curves(
            "Time to the first token", f"From the prompt's tokens. {_THREE_QUANTILES}", units.Seconds,
            *_three_quantiles("vllm:time_to_first_token_seconds"), width=8,
        ),
        curves(
            "Time between tokens", _THREE_QUANTILES, units.Seconds,
            *_three_quantiles("vllm:inter_token_latency_seconds"), width=8,
        ),
        curves(
            "Time per token of an answer", f"The mean of each. {_THREE_QUANTILES}", units.Seconds,
            *_three_quantiles("vllm:request_time_per_output_token_seconds"), width=8,
        ),
        curves(
            "Tokens of prompts", "Of texts that were answered, those of other tasks too.", units.CountsPerSecond,
            Query(rate("vllm:prompt_tokens_total", *EACH), NAMED), width=6,
        ),
        curves(
            "Tokens made", "By all servers.", units.CountsPerSecond,
            Query(rate("vllm:generation_tokens_total", *EACH), NAMED), width=6,
        ),
        curves(
            "Key-value cache", "Share in use, of the server with the least room.", units.PercentUnit,
            Query(f"max by ({', '.join(EACH)}) (vllm:kv_cache_usage_perc{{{PODS}}})", NAMED), width=6,
        ).min(0).max(1),
        curves(
            "Ends of answers", "By why; abort, callers that left.", units.RequestsPerSecond,
            Query(rate("vllm:request_success_total", "finished_reason"), "{{finished_reason}}"), width=6,
        ),
    )  # fmt: skip


def _add_processes(board: Dashboard) -> None:
    add_row(
        board, "Pods",
        curves(
            "CPU", "Cores in use, by pod. A gateway can't use more than one.", units.Short,
            Query(rate("process_cpu_seconds_total", "namespace", "pod"), "{{namespace}}/{{pod}}"),
        ),
        curves(
            "Memory", "Resident, by pod.", units.BytesIEC,
            Query(add_up("process_resident_memory_bytes", "namespace", "pod"), "{{namespace}}/{{pod}}"),
        ),
        collapsed=True,
    )  # fmt: skip
