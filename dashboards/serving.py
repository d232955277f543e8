"""PromQL of ModelDeployments: what the operator says of them, and what their gateways and servers count.

The operator's series name a deployment by `name`, those of its pods by `modeldeployment`, which the chart's PodMonitor
puts there.
"""

from __future__ import annotations

DEPLOYMENTS = 'namespace=~"$namespace", name=~"$name"'
PODS = 'namespace=~"$namespace", modeldeployment=~"$name"'
EACH = ("namespace", "modeldeployment")
NAMED = "{{namespace}}/{{modeldeployment}}"
_REQUESTS = "modelyard_gateway_requests_total"
_UNAVAILABLE = "modelyard_gateway_unavailable_total"


def of_deployments(metric: str, *labels: str, where: str = "") -> str:
    """A metric of each of the chosen deployments, by namespace, name and these labels of its own; once, however many
    operators are scraped.
    """
    by = ", ".join(("namespace", "name", *labels))
    return f"max by ({by}) (modelyard_modeldeployment_{metric}{{{_chosen(DEPLOYMENTS, where)}}})"


def holds(condition: str) -> str:
    """1 where a condition of a chosen deployment is True, 0 where it is False."""
    return of_deployments("condition", where=f'type="{condition}"')


def add_up(metric: str, *by: str, where: str = "") -> str:
    """The sum of a gauge over the chosen deployments' pods, by these labels."""
    return _sum(f"{metric}{{{_chosen(PODS, where)}}}", by)


def rate(counter: str, *by: str, where: str = "", window: str = "$__rate_interval") -> str:
    """How much a counter of the chosen deployments' pods rises in a second, by these labels."""
    return _sum(f"rate({counter}{{{_chosen(PODS, where)}}}[{window}])", by)


def mean(histogram: str, *by: str) -> str:
    """The mean of what a histogram has seen lately."""
    return f"{rate(f'{histogram}_sum', *by)} / {rate(f'{histogram}_count', *by)}"


def failed_share(*by: str, window: str = "$__rate_interval") -> str:
    """The share of requests that got no answer, or a server's error, as the alerts have it: those of a suspended
    deployment, and those whose callers hung up, don't count.
    """
    away = f'rate({_UNAVAILABLE}{{reason!="suspended", {PODS}}}[{window}])'
    failed = f'rate({_REQUESTS}{{outcome=~"error|timeout|broken", {PODS}}}[{window}])'
    served = f'rate({_REQUESTS}{{outcome!~"unavailable|gone", revision!="", {PODS}}}[{window}])'
    return f"{_sum(f'{failed} or {away}', by)} / {_sum(f'{served} or {away}', by)}"


def by_name(expr: str) -> str:
    """Series of pods as the operator names their deployment, without the label that they had."""
    named = f'label_replace({expr}, "name", "${{1}}", "modeldeployment", "(.+)")'
    return f"sum by (namespace, name) ({named})"


def _sum(expr: str, by: tuple[str, ...]) -> str:
    return f"sum by ({', '.join(by)}) ({expr})" if by else f"sum({expr})"


def _chosen(labels: str, where: str) -> str:
    return f"{where}, {labels}" if where else labels
