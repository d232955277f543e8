"""The corpus of manifests against the schema and the CEL rules, evaluated in Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from modelyard.api.resources import RESOURCES
from modelyard.api.transitions import FROZEN, TRANSITION_RULES

from tests.crds.admission import refusals, schema
from tests.crds.corpus import INVALID, VALID, expectation, manifest

SPECS = {resource.kind: resource.spec for resource in RESOURCES}


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_a_valid_manifest_is_accepted_and_understood(path: Path) -> None:
    resource = manifest(path)
    assert refusals(resource) == []
    SPECS[resource["kind"]].model_validate(resource["spec"])


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_an_invalid_manifest_is_refused_for_one_reason(path: Path) -> None:
    found = refusals(manifest(path))
    assert len(found) == 1
    assert expectation(path) in found[0].replace("$.", "")


def _rules(node: Any) -> Iterator[dict[str, str]]:
    """Every rule at or below a node of the schema."""
    if isinstance(node, dict):
        yield from node.get("x-kubernetes-validations", ())
        for child in node.values():
            yield from _rules(child)


def test_every_rule_has_a_manifest_that_breaks_it() -> None:
    said = "\n".join(refusals(manifest(path))[0] for path in INVALID)
    # Rules about changes have tests of their own below.
    found = [rule for kind in SPECS for rule in _rules(schema(kind))]
    rules = [rule for rule in found if "oldSelf" not in rule["rule"]]
    assert len(rules) > 30
    assert [rule["message"] for rule in rules if rule["message"] not in said] == []


@pytest.mark.parametrize("name", ["everything", "deployment-everything"])
def test_the_fullest_manifest_uses_every_field_but_the_alternatives(name: str) -> None:
    resource = manifest(next(path for path in VALID if path.stem == name))
    model = SPECS[resource["kind"]]
    assert set(model.model_validate(resource["spec"]).dump()) == {
        f.alias for f in model.model_fields.values()
    }
    assert set(resource["spec"]) == {f.alias for f in model.model_fields.values()}


STARTED = [{"attempt": 1}, {"prepareAttempt": 1}, {"attempt": 2, "prepareAttempt": 1}]
NOT_STARTED = [None, {"observedGeneration": -1}, {"attempt": 0, "prepareAttempt": 0}]
CHANGES = {
    "task": "text-generation",
    "model": {"uri": "hf://org/other"},
    "data": {"sources": [{"name": "tickets", "uri": "configmap://tickets/other.csv"}]},
    "training": {"learningRate": 1e-4},
    "deepspeed": {"zeroStage": 1},
    "storage": {"uri": "pvc://claim"},
    "output": {"name": "other"},
}


def _update(status: object, change: dict[str, object], **before: object) -> list[str]:
    old = manifest(next(path for path in VALID if path.stem == "minimal"))
    old["spec"].update(before)
    if status is not None:
        old["status"] = status
    return refusals({**old, "spec": {**old["spec"], **change}}, old)


@pytest.mark.parametrize("status", STARTED)
@pytest.mark.parametrize("field", FROZEN)
def test_what_was_trained_cannot_change_once_started(field: str, status: object) -> None:
    found = _update(status, {field: CHANGES[field]})
    assert found == [
        f"$.spec.{field}: {field} can't change once the job has started: "
        "create a job with another name instead"
    ]


@pytest.mark.parametrize("status", NOT_STARTED)
@pytest.mark.parametrize("field", FROZEN)
def test_everything_can_change_before_the_start(field: str, status: object) -> None:
    assert _update(status, {field: CHANGES[field]}) == []


DATA = manifest(next(path for path in VALID if path.stem == "minimal"))["spec"]["data"]
NODES: dict[str, object] = {"trainer": {"numNodes": 2}}


@pytest.mark.parametrize("status", STARTED)
def test_the_pods_can_change_only_while_suspended(status: object) -> None:
    assert "set suspend to true first" in _update(status, NODES)[0]
    assert _update(status, {**NODES, "suspend": True}) == []
    assert _update(status, {**NODES, "suspend": False}, suspend=True) == []
    assert _update(status, {"suspend": True, "ttlSecondsAfterFinished": 5, "gate": {"max": 1.0}}) == []


def test_each_frozen_field_is_tried() -> None:
    assert set(CHANGES) == set(FROZEN)
    assert len(TRANSITION_RULES) == len(FROZEN) + 2


@pytest.mark.parametrize("status", STARTED)
def test_the_size_of_the_pod_that_prepares_can_change_only_while_suspended(status: object) -> None:
    """It makes no other data, and a quota that refuses the pod is met only after the start."""
    smaller: dict[str, object] = {"data": {**DATA, "resources": {"limits": {"memory": "1Gi"}}}}
    assert _update(status, smaller) == [
        "$.spec.data.resources: data.resources can change only while the job is suspended: set suspend to"
        " true first"
    ]
    assert _update(status, {**smaller, "suspend": True}) == []
    assert _update(status, {**smaller, "suspend": False}, suspend=True) == []
    assert _update(status, {"data": DATA, "suspend": True}, **smaller) == []
    other: dict[str, object] = {"data": {**DATA, "split": {"seed": 1}}, "suspend": True}
    assert "data can't change once the job has started" in _update(status, other)[0]


def _edit_claim(old: object, new: object, **status: object) -> list[str]:
    """What the API server says of this change of a ModelDeployment's storage."""
    resource = manifest(next(path for path in VALID if path.stem == "deployment-minimal"))
    before, after = ({**resource, "spec": dict(resource["spec"]), "status": status} for _ in range(2))
    for each, storage in ((before, old), (after, new)):
        if storage is not None:
            each["spec"]["storage"] = storage
    return refusals(after, before)


OWN = {"storage": "pvc://md-models"}
SMALL: dict[str, object] = {"claim": {"size": "5Gi"}}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (SMALL, {"claim": {"size": "50Gi"}}),
        (SMALL, {"claim": {"size": "5Gi", "storageClassName": "fast"}}),
        (SMALL, {"claim": {"size": "5Gi", "accessModes": ["ReadWriteOnce"]}}),
        (SMALL, {"claim": {"size": "5Gi", "retain": True}}),
        (SMALL, {"claim": {}}),
        (None, SMALL),
    ],
)
def test_a_claim_that_is_made_cannot_be_changed_through_its_deployment(old: object, new: object) -> None:
    (found,) = _edit_claim(old, new, **OWN)
    assert "storage.claim can't change once the claim is made" in found
    assert found.startswith("$.spec.storage.claim: ")
    # Before, and with another one in use, it can.
    assert _edit_claim(old, new) == []
    assert _edit_claim(old, new, storage="pvc://other") == []


def test_a_claim_that_stays_cannot_be_taken_out_as_it_could_not_be_put_back() -> None:
    kept = {"claim": {"retain": True}}
    without: tuple[object, ...] = (None, {})
    for new in without:
        (found,) = _edit_claim(kept, new, **OWN)
        assert "(retain): leave it, or name another claim as storage.uri" in found
    assert _edit_claim(kept, {"uri": "pvc://other"}, **OWN) == []
    assert _edit_claim(kept, None) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [(SMALL, SMALL), (SMALL, None), (SMALL, {"uri": "pvc://other"}), (None, {"claim": {}}), (None, None)],
)
def test_another_claim_can_be_named_at_any_time(old: object, new: object) -> None:
    assert _edit_claim(old, new, **OWN) == []
