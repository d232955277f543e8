"""What the cluster or the profile refuses keeps what serves from nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from modelyard.api.profile import RoleName
from modelyard.engine.errors import ClusterError, NotFound, Refused
from modelyard.engine.plan import Key, Manifest
from modelyard.serving.plan import plan_deployment

from tests.unit.serving.world import KEY, NAME, NAMESPACE, World, deployment, trained_job

ZERO = {"minReplicas": 0, "maxReplicas": 4, "idleSeconds": 30, "scaleDownDelaySeconds": 0}


def at_zero() -> tuple[World, str]:
    world = World()
    world.create(trained_job(), deployment(scaling=ZERO))
    world.wait(150, step=5)
    (revision,) = world.revisions()
    assert world.revisions() == {revision: 0}
    return world, revision


def ask(world: World) -> None:
    """Requests come and wait."""
    world.load.queued = 2
    world._answer()
    world.settle()


def refuse(kind: str, name: str) -> Any:
    def answer(manifest: Manifest) -> ClusterError | None:
        if manifest["kind"] == kind and manifest["metadata"]["name"].startswith(name):
            return Refused("Forbidden", "exceeded quota")
        return None

    return answer


def test_the_role_of_the_gateways_that_is_missing_is_named() -> None:
    """As an API server answers an account that may not `bind`, of a role that isn't there."""
    world = World()

    def answer(manifest: Manifest) -> ClusterError | None:
        path = f"PATCH /apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings/x"
        said = f'{path}: rolebindings.rbac.authorization.k8s.io "modelyard-gateway" not found'
        return NotFound(said) if manifest["kind"] == "RoleBinding" else None

    world.cluster.refuse = answer
    world.create(trained_job(), deployment())
    assert world.condition("Ready") == ("False", "RoleNotFound")
    (told,) = {c["message"] for c in world.status["conditions"] if c["reason"] == "RoleNotFound"}
    assert '"modelyard-gateway" not found.' in told and "create it" in told and "PATCH" not in told
    world.cluster.refuse = lambda manifest: None
    world.wait(120, step=40)
    assert world.condition("Ready") == ("True", "Serving")


def test_a_new_revision_that_is_refused_does_not_keep_the_old_one_at_zero() -> None:
    world, old = at_zero()
    known = f"{NAME}-{old}"

    def no_new(manifest: Manifest) -> ClusterError | None:
        new = manifest["kind"] == "Deployment" and "template" in manifest["spec"]
        return (
            Refused("Forbidden", "exceeded quota") if new and manifest["metadata"]["name"] != known else None
        )

    world.cluster.refuse = no_new
    world.edit(server={"maxBatchDelayMilliseconds": 9})
    ask(world)
    assert world.revisions() == {old: 1}
    assert world.condition("Reconciling") == ("True", "QuotaExceeded")


@pytest.mark.parametrize("kind", ["Job", "RoleBinding"])
def test_whatever_else_is_refused_servers_come_from_zero(kind: str) -> None:
    world, old = at_zero()
    world.cluster.refuse = refuse(kind, NAME)
    for key in [k for k in world.cluster.objects if k.kind == kind]:
        world.cluster.erase(key)
    world.settle()
    ask(world)
    assert world.revisions() == {old: 1}


def test_a_profile_that_is_gone_stops_no_scaling() -> None:
    world, old = at_zero()
    world.edit(profile="gpu")
    assert world.condition("Stalled") == ("True", "ProfileNotFound")
    ask(world)
    assert world.revisions() == {old: 1}
    assert world.condition("Ready") == ("True", "Serving")
    assert world.status["scaling"]["desired"] == 1
    world.load = type(world.load)(idle_seconds=40.0)
    world.wait(150, step=5)
    assert world.revisions() == {old: 0}


def test_while_the_profile_is_gone_all_parts_are_told_of_as_they_are() -> None:
    world = World()
    world.create(trained_job(), deployment(scaling={"scaler": "none"}, replicas=3))
    world.edit(profile="gpu")
    assert world.condition("UpToDate") == ("False", "ProfileNotFound")
    assert world.condition("Ready") == ("True", "Serving")
    down = {f"{NAME}-gateway": 0, f"{NAME}-{next(iter(world.revisions()))}": 1}
    for name, ready in down.items():
        key = Key("Deployment", NAMESPACE, name)
        world.cluster.change(key, lambda o, ready=ready: o["status"].update(readyReplicas=ready))  # type: ignore[misc]
    world._work()
    assert world.condition("GatewayReady") == ("False", "Starting")
    assert world.condition("Ready") == ("False", "ProfileNotFound")
    (revision,) = world.status["revisions"]
    assert (revision["replicas"], revision["readyReplicas"], revision["state"]) == (3, 1, "Serving")
    assert world.status["readyReplicas"] == 1
    world.edit(profile="default")
    assert world.condition("UpToDate") == ("True", "Serving")
    assert world.condition("GatewayReady") == ("True", "Ready")


def test_a_spec_that_cannot_be_read_keeps_what_serves_as_it_is_and_is_not_said_to_serve() -> None:
    world = World()
    world.create(trained_job(), deployment())
    resource = copy.deepcopy(world.cluster.objects[KEY])
    resource["spec"]["replicas"] = "many"
    seen = world.engine.reconciler._see(KEY, resource)
    plan = plan_deployment(resource, seen, world.clock.now(), world.settings)
    held = {c["type"]: (c["status"], c["reason"]) for c in plan.status["conditions"]}
    assert held["Ready"] == ("True", "Serving")
    assert held["Stalled"] == ("True", "InvalidSpec")
    assert held["UpToDate"] == ("False", "InvalidSpec")
    assert held["ServersReady"] == held["GatewayReady"] == ("True", "Ready")
    assert plan.children == ()
    assert {
        f"{k.kind}/{k.name}" for k in world.cluster.objects if k.kind in ("Deployment", "Service")
    } <= plan.keep


def test_another_role_of_the_gateways_has_another_binding() -> None:
    """What a binding gives can't be changed in a cluster."""
    world = World()
    world.create(trained_job(), deployment())
    (before,) = world.names("RoleBinding")
    world.settings = world.settings.model_copy(
        update={"gateway_role": RoleName(kind="Role", name="elsewhere")}
    )
    world.engine.controller.enqueue_all()
    world.settle()
    (after,) = world.names("RoleBinding")
    assert after != before
    found = world.cluster.objects[Key("RoleBinding", NAMESPACE, after)]
    assert found["roleRef"]["name"] == "elsewhere"


def test_budgets_hold_back_nobody_for_servers_that_are_not_ready() -> None:
    world = World()
    world.create(trained_job(), deployment())
    (old,) = world.revisions()
    world.well = {old}
    world.edit(server={"maxBatchDelayMilliseconds": 9})
    assert len(world.revisions()) == 2
    budgets = {k.name: o["spec"] for k, o in world.cluster.objects.items() if k.kind == "PodDisruptionBudget"}
    assert set(budgets) == {f"{NAME}-gateway", *(f"{NAME}-{revision}" for revision in world.revisions())}
    for name, spec in budgets.items():
        assert (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
        revision = spec["selector"]["matchLabels"].get("modelyard.dev/revision")
        assert name == (f"{NAME}-gateway" if revision is None else f"{NAME}-{revision}")
