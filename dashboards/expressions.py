"""PromQL that several panels need.

An operator that ends and the one that follows may both be scraped for a moment: the series of a resource are taken
once, by `max`. Counters rise in the operator that leads, and only there: sums over operators count nothing twice.
"""

from __future__ import annotations

# Jobs of nobody have no such label; All must show them too, so it is `.*`.
OWNED = 'project=~"$project", team=~"$team"'
KIND = f'kind="TrainingJob", {OWNED}'
_INSTALL = ("cluster", "namespace", "job")
OWNERS = f'max by (namespace, name, project, team) (modelyard_trainingjob_info{{namespace=~"$namespace", {OWNED}}})'


def of_job(metric: str, *labels: str, where: str = "") -> str:
    """A metric of the chosen job, by these labels of its own."""
    by = f" by ({', '.join(labels)})" if labels else ""
    chosen = ", ".join(filter(None, ('namespace="$namespace"', 'name="$name"', where)))
    return f"max{by} (modelyard_trainingjob_{metric}{{{chosen}}})"


def of_jobs(metric: str, *labels: str, where: str = "") -> str:
    """A metric of each of the chosen jobs, by namespace, name, project, team, and these labels of its own."""
    return owned(once(metric, *labels, where=where))


def once(metric: str, *labels: str, where: str = "") -> str:
    """A metric of each job of the chosen namespaces, by namespace, name and these labels of its own."""
    by = ", ".join(("namespace", "name", *labels))
    chosen = ", ".join(filter(None, ('namespace=~"$namespace"', where)))
    return f"max by ({by}) (modelyard_trainingjob_{metric}{{{chosen}}})"


def over(function: str, metric: str, window: str, where: str = "") -> str:
    """A function over the last values of a metric of each job of the chosen namespaces, by namespace and name."""
    chosen = ", ".join(filter(None, ('namespace=~"$namespace"', where)))
    return f"max by (namespace, name) ({function}(modelyard_trainingjob_{metric}{{{chosen}}}[{window}]))"


def resources(*by: str, where: str) -> str:
    """How many resources there are, by these labels: each install's own, whichever of its operators tells of them."""
    labels = ("kind", "phase", "project", "team")
    each = f"max by ({', '.join((*labels, *_INSTALL))}) (modelyard_resources{{{where}}})"
    return f"sum by ({', '.join(by)}) ({each})" if by else f"sum({each})"


def owned(expr: str) -> str:
    """Those of the series by namespace and name that belong to a chosen owner, with project and team."""
    return f"({expr}) * on (namespace, name) group_left (project, team) {OWNERS}"


def counted(metric: str, where: str = "") -> str:
    """How much a counter of jobs has risen over the time shown, by its series."""
    chosen = ", ".join(filter(None, (KIND, where)))
    return f"increase(modelyard_{metric}{{{chosen}}}[$__range])"


def name_nobody(label: str, expr: str) -> str:
    """The series of `expr`, by a label of owners; what belongs to nobody is called so."""
    return f'label_replace({expr}, "{label}", "(none)", "{label}", "")'


def or_zero(expr: str) -> str:
    """For counters that are not there before they first count: none is nothing that a reader should wonder at."""
    return f"{expr} or vector(0)"


def quantile(share: float, histogram: str, *labels: str, where: str = "") -> str:
    """A quantile of a histogram of the chosen operators, by these labels."""
    by = ", ".join(("le", *labels))
    return (
        f"histogram_quantile({share}, sum by ({by}) (rate({histogram}_bucket{{{where}}}[$__rate_interval])))"
    )
