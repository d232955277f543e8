"""What follows from what features say of themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from modelyard.engine.feature import Feature, find_kinds, find_permissions
from modelyard.serving.feature import FEATURE as SERVING
from modelyard.training.feature import FEATURE as TRAINING
from modelyard.workloads.kinds import CLAIM, JOB, POD

from tests.fakes.harness import CONFIG_MAP, GADGET, TOY, TROOP
from tests.fakes.toys import plan_toy, plan_troop

TOYS = Feature(TOY, lambda settings: plan_toy, makes=(CONFIG_MAP, CLAIM, JOB), sees=(POD,), looks_at=(CLAIM,))
TROOPS = Feature(TROOP, lambda settings: plan_troop, makes=(TOY,))
FOLLOWED = {"list", "watch"}


def test_the_operator_needs_for_training_jobs_what_it_always_has() -> None:
    writes = FOLLOWED | {"create", "patch", "delete"}
    assert find_permissions([TRAINING]) == {
        ("modelyard.dev", "trainingjobs"): FOLLOWED | {"delete"},
        ("modelyard.dev", "trainingjobs/status"): {"patch"},
        ("modelyard.dev", "trainingjobs/finalizers"): {"update"},
        ("batch", "jobs"): writes,
        ("", "services"): writes,
        ("", "persistentvolumeclaims"): writes | {"get"},
        ("", "pods"): FOLLOWED,
        ("", "events"): {"list", "create"},
    }


def test_what_the_operator_needs_for_deployments() -> None:
    writes = FOLLOWED | {"create", "patch", "delete"}
    needed = find_permissions([SERVING])
    # None is deleted by its own plan.
    assert needed["modelyard.dev", "modeldeployments"] == FOLLOWED
    assert needed["rbac.authorization.k8s.io", "rolebindings"] == writes
    assert needed["rbac.authorization.k8s.io", "clusterroles"] == {"bind"}
    assert ("", "secrets") not in needed
    assert ("discovery.k8s.io", "endpointslices") not in needed


def test_a_custom_resource_that_another_one_makes_is_written_too() -> None:
    assert find_permissions([TOYS])["modelyard.dev", "toys"] == FOLLOWED
    expiring = replace(TOYS, expires=True)
    assert find_permissions([expiring])["modelyard.dev", "toys"] == FOLLOWED | {"delete"}
    assert find_permissions([TOYS, TROOPS])["modelyard.dev", "toys"] == FOLLOWED | {
        "create",
        "patch",
        "delete",
    }


def test_definitions_are_watched_only_where_a_kind_is_optional() -> None:
    crds = ("apiextensions.k8s.io", "customresourcedefinitions")
    assert crds not in find_permissions([TOYS])
    with_gadgets = replace(TOYS, makes=(*TOYS.makes, GADGET))
    assert find_permissions([with_gadgets])[crds] == {"watch"}
    assert find_permissions([with_gadgets])["modelyard.dev", "gadgets"] >= FOLLOWED


def test_all_kinds_of_all_features_are_followed_once() -> None:
    assert [kind.name for kind in find_kinds([TOYS, TROOPS])] == [
        "Toy", "ConfigMap", "PersistentVolumeClaim", "Job", "Pod", "Troop",
    ]  # fmt: skip


def test_features_must_agree_on_what_a_kind_is() -> None:
    other = replace(TROOPS, makes=(replace(TOY, digest=None),))
    with pytest.raises(ValueError, match="differ about the kind Toy"):
        find_kinds([TOYS, other])
