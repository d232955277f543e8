"""The CustomResourceDefinition of TrainingJob."""

from __future__ import annotations

from typing import Any

from modelyard.api.base import API_VERSION, GROUP, VERSION
from modelyard.api.schema import structural_schema
from modelyard.api.status import TrainingJobStatus
from modelyard.api.structural import problems
from modelyard.api.trainingjob import TrainingJobSpec
from modelyard.api.transitions import NAME_RULES, TRANSITION_RULES

KIND = "TrainingJob"
PLURAL = "trainingjobs"
NAME = f"{PLURAL}.{GROUP}"


def _column(name: str, path: str, kind: str = "string", *, wide: bool = False, about: str) -> dict[str, Any]:
    column = {"name": name, "jsonPath": path, "type": kind, "description": about}
    return {**column, "priority": 1} if wide else column


# NB: ETA is no `date` column: kubectl prints dates as ages, and a date in the future as <invalid>.
COLUMNS = (
    _column("Phase", ".status.phase", about="A summary of the conditions."),
    _column("Step", ".status.progress.step", "integer", about="Optimizer steps done."),
    _column("Of", ".status.progress.maxSteps", "integer", about="Optimizer steps to do."),
    _column("Percent", ".status.progress.percent", "integer", about="Steps done, in percent."),
    _column("Loss", ".status.progress.metrics.loss", "number", about="Last training loss."),
    _column("ETA", ".status.progress.estimatedCompletionTime", about="When training should end."),
    _column("Reason", '.status.conditions[?(@.type=="Ready")].reason', about="Why the job is ready or not."),
    _column("Age", ".metadata.creationTimestamp", "date", about="Time since creation."),
    _column(
        "Attempt", ".status.attempt", "integer", wide=True, about="Index of the current or last attempt."
    ),
    _column("Goodput", ".status.goodput.ratio", "number", wide=True, about="Productive part of its time."),
    _column("Cost", ".status.cost.amount", "number", wide=True, about="What it has cost so far."),
    _column("Gate", ".status.gate.value", "number", wide=True, about="The gate's metric."),
    _column("Message", '.status.conditions[?(@.type=="Ready")].message', wide=True, about="What to do."),
)


def root_schema() -> dict[str, Any]:
    """The schema of a whole TrainingJob. Raises TypeError if it breaks a rule of structural schemas."""
    # Reads as "in progress" until the operator has answered; without it kstatus takes a new object for a
    # finished one.
    status = {
        **structural_schema(TrainingJobStatus, describe_defaults=False),
        "default": {"observedGeneration": -1},
    }
    properties = {"spec": structural_schema(TrainingJobSpec), "status": status}
    found = [problem for name in properties for problem in problems(properties[name], f".{name}")]
    if found:
        raise TypeError("not a structural schema:\n" + "\n".join(found))
    return {
        "type": "object",
        "description": "TrainingJob takes a model and data to a trained model that has passed its gate.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{API_VERSION}."},
            "kind": {"type": "string", "description": f"{KIND}."},
            "metadata": {"type": "object"},
            **properties,
        },
        "x-kubernetes-validations": [rule.dump() for rule in (*NAME_RULES, *TRANSITION_RULES)],
    }


def custom_resource_definition() -> dict[str, Any]:
    """The whole manifest."""
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": list(COLUMNS),
        "selectableFields": [{"jsonPath": ".status.phase"}, {"jsonPath": ".spec.suspend"}],
        "schema": {"openAPIV3Schema": root_schema()},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["tj"],
                "categories": ["modelyard"],
            },
            "scope": "Namespaced",
            "versions": [version],
        },
    }
