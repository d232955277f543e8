"""Scalers of others: one at a time, on the revision that serves, and heard of."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard.engine.plan import Key, Manifest

from tests.builders import make_settings
from tests.unit.serving.world import KEY, NAME, NAMESPACE, World, deployment, trained_job

HPA = Key("HorizontalPodAutoscaler", NAMESPACE, NAME)
SCALED = Key("ScaledObject", NAMESPACE, NAME)
WORKING = [
    {"type": "AbleToScale", "status": "True", "reason": "ReadyForNewScale", "message": "ok"},
    {"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound", "message": "ok"},
]


def scaled(**scaling: Any) -> World:
    world = World(settings=make_settings(prometheus="http://prometheus.monitoring:9090"))
    world.create(trained_job(), deployment(scaling={"maxReplicas": 4, **scaling}))
    return world


def resize(world: World, replicas: int) -> None:
    """What an autoscaler does to a Deployment."""
    (revision,) = world.revisions()
    key = Key("Deployment", NAMESPACE, f"{NAME}-{revision}")
    world.cluster.change(key, lambda o: o["spec"].update(replicas=replicas))
    world.settle()


def spec_of(world: World, key: Key) -> dict[str, Any]:
    found: dict[str, Any] = world.cluster.objects[key]["spec"]
    return found


def test_an_hpa_follows_the_processors_of_the_revision_that_serves_and_its_word_stays() -> None:
    world = scaled(scaler="hpa", targetCpuUtilization=60, scaleDownDelaySeconds=7200)
    (old,) = world.revisions()
    spec = spec_of(world, HPA)
    assert spec["scaleTargetRef"]["name"] == f"{NAME}-{old}"
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 4)
    # Of the server alone: a container that others put into the pod may ask for no processor, and then none counts.
    target = {"type": "Utilization", "averageUtilization": 60}
    watched = {"name": "cpu", "container": "server", "target": target}
    assert spec["metrics"] == [{"type": "ContainerResource", "containerResource": watched}]
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 3600
    resize(world, 3)
    world.wait(5)
    assert world.revisions() == {old: 3}
    # The next revision begins as large, and is then the autoscaler's.
    world.edit(server={"maxBatchDelayMilliseconds": 9})
    world.wait(3)
    (new,) = world.revisions()
    assert world.revisions() == {new: 3}
    assert spec_of(world, HPA)["scaleTargetRef"]["name"] == f"{NAME}-{new}"


def test_what_the_scaler_says_of_itself_is_mirrored() -> None:
    world = scaled(scaler="hpa")
    assert world.condition("ScalingReady") == ("False", "Starting")
    world.report(HPA, {"conditions": WORKING})
    world.settle()
    assert world.condition("ScalingReady") == ("True", "Delegated")
    blind = {
        "type": "ScalingActive",
        "status": "False",
        "reason": "FailedGetResourceMetric",
        "message": "no metrics",
    }
    world.report(HPA, {"conditions": [WORKING[0], blind]})
    world.settle()
    assert world.condition("ScalingReady") == ("False", "FailedGetResourceMetric")
    assert world.condition("Ready") == ("True", "Serving")


def test_an_autoscaler_of_the_users_own_under_that_name_is_told_of_with_what_to_do() -> None:
    world = World(settings=make_settings(prometheus="http://prometheus.monitoring:9090"))
    users = {"apiVersion": "autoscaling/v2", "kind": HPA.kind,
             "metadata": {"name": HPA.name, "namespace": NAMESPACE}, "spec": {"maxReplicas": 3}}  # fmt: skip
    world.create(users, trained_job(), deployment(scaling={"maxReplicas": 4, "scaler": "hpa"}))
    assert world.condition("ScalingReady") == ("False", "NameTaken")
    message = next(c["message"] for c in world.status["conditions"] if c["type"] == "ScalingReady")
    assert "Delete or rename it" in message and "scaler to none" in message
    assert spec_of(world, HPA) == {"maxReplicas": 3}


def with_keda(**scaling: Any) -> World:
    """KEDA is there, and scales by a ScaledObject."""
    world = World(settings=make_settings(prometheus="http://prometheus.monitoring:9090"))
    world.cluster.served.add("ScaledObject")
    world.engine.controller.serves("ScaledObject", True)
    return world.create(trained_job(), deployment(scaling={"scaler": "keda", "maxReplicas": 4, **scaling}))


def play_keda(world: World) -> Key:
    """What KEDA makes of a ScaledObject: an autoscaler with its labels. Returns its key."""
    scaled = world.cluster.objects[SCALED]
    key = Key("HorizontalPodAutoscaler", NAMESPACE, f"keda-hpa-{NAME}")
    owner = {"kind": "ScaledObject", "name": NAME, "uid": scaled["metadata"]["uid"], "controller": True}
    world.cluster.create({
        "apiVersion": "autoscaling/v2", "kind": key.kind,
        "metadata": {"name": key.name, "namespace": NAMESPACE, "labels": dict(scaled["metadata"]["labels"]),
                     "ownerReferences": [owner]},
        "spec": {"minReplicas": 1, "maxReplicas": 4},
    })  # fmt: skip
    world.report(SCALED, {"conditions": [{"type": "Ready", "status": "True", "reason": "ScaledObjectReady"}]})
    world.settle()
    return key


def test_the_autoscaler_that_keda_makes_of_ours_is_no_other_scaler() -> None:
    world = with_keda()
    made = world.cluster.objects[SCALED]["metadata"]["uid"]
    key = play_keda(world)
    world.report(key, {"conditions": WORKING})
    world.settle()
    assert world.condition("ScalingReady") == ("True", "Delegated")
    assert world.cluster.objects[SCALED]["metadata"]["uid"] == made
    assert key in world.cluster.objects
    assert world.condition("Reconciling") is None


@pytest.mark.parametrize(("least", "held"), [(1, 0), (0, 0), (1, 2)])
def test_a_paused_scaled_object_keeps_its_number_and_says_so(least: int, held: int) -> None:
    world = with_keda(minReplicas=least)
    play_keda(world)
    ready = {"type": "Ready", "status": "True", "reason": "ScaledObjectReady"}
    paused = {"type": "Paused", "status": "True", "reason": "ScaledObjectPaused", "message": "is paused"}
    world.report(SCALED, {"conditions": [ready, paused]})
    resize(world, held)
    world.wait(5)
    (revision,) = world.revisions()
    assert world.revisions() == {revision: held}
    assert world.condition("ScalingReady") == ("False", "ScaledObjectPaused")
    assert "autoscaling.keda.sh/paused-replicas" in str(world.status["conditions"])
    told = ("True", "Ready") if held else ("False", "ScaledObjectPaused")
    assert world.condition("ServersReady") == told
    world.report(SCALED, {"conditions": [ready, paused | {"status": "False"}]})
    world.wait(5)
    assert world.condition("ScalingReady") == ("True", "Delegated")
    assert world.revisions() == {revision: held or least}


@pytest.mark.parametrize("scaler", ["hpa", "builtin"])
def test_from_keda_on_its_scaled_object_is_waited_for_and_not_what_it_has_made(scaler: str) -> None:
    world = with_keda()
    play_keda(world)
    world.cluster.finalizers.add("ScaledObject")
    world.edit(scaling={"maxReplicas": 4, "scaler": scaler})
    message = next(c["message"] for c in world.status["conditions"] if c["type"] == "ScalingReady")
    assert "ScaledObject of before" in message
    assert HPA not in world.cluster.objects
    world.cluster.erase(SCALED)
    world.settle()
    assert (HPA in world.cluster.objects) == (scaler == "hpa")
    assert world.condition("ScalingReady") != ("False", "HandingOver")


def test_keda_asks_the_profiles_prometheus_for_the_load_of_all_gateways() -> None:
    world = World(settings=make_settings(prometheus="http://prometheus.monitoring:9090"))
    world.cluster.served.add("ScaledObject")
    world.engine.controller.serves("ScaledObject", True)
    world.create(
        trained_job(), deployment(scaling={"scaler": "keda", "minReplicas": 0, "maxReplicas": 4, "target": 6})
    )
    spec = spec_of(world, SCALED)
    (trigger,) = spec["triggers"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"], trigger["metadata"]["threshold"]) == (0, 4, "6")
    assert trigger["metadata"]["serverAddress"] == "http://prometheus.monitoring:9090"
    assert f'namespace="{NAMESPACE}",modeldeployment="{NAME}"' in trigger["metadata"]["query"]


def test_keda_takes_no_server_that_was_never_ready() -> None:
    world = World(settings=make_settings(prometheus="http://prometheus.monitoring:9090"), well=set())
    world.cluster.served.add("ScaledObject")
    world.engine.controller.serves("ScaledObject", True)
    world.create(trained_job(), deployment(scaling={"scaler": "keda", "minReplicas": 0, "maxReplicas": 4}))
    assert spec_of(world, SCALED)["minReplicaCount"] == 1
    world.well = None
    world.settle()
    assert world.condition("UpToDate") == ("True", "Serving")
    assert spec_of(world, SCALED)["minReplicaCount"] == 0
    # It goes to zero, where the next revision has a server again until it is ready.
    resize(world, 0)
    assert world.condition("Ready") == ("True", "Serving")
    world.edit(server={"maxBatchDelayMilliseconds": 9})
    world.wait(5)
    (new,) = world.revisions()
    assert spec_of(world, SCALED)["scaleTargetRef"]["name"] == f"{NAME}-{new}"
    assert spec_of(world, SCALED)["minReplicaCount"] == 0


def test_without_keda_the_cluster_is_said_to_lack_it_and_servers_stay() -> None:
    world = scaled(scaler="keda")
    assert world.condition("ScalingReady") == ("False", "NotServed")
    assert list(world.revisions().values()) == [1]
    message = next(c["message"] for c in world.status["conditions"] if c["type"] == "ScalingReady")
    assert "Install KEDA" in message


def test_a_hand_over_leaves_the_size_and_never_two_scalers() -> None:
    world = scaled(scaler="hpa")
    resize(world, 3)
    world.cluster.finalizers.add("HorizontalPodAutoscaler")
    world.cluster.served.add("ScaledObject")
    world.engine.controller.serves("ScaledObject", True)
    world.edit(scaling={"maxReplicas": 4, "scaler": "keda"})
    assert "deletionTimestamp" in world.cluster.objects[HPA]["metadata"]
    assert SCALED not in world.cluster.objects
    assert world.condition("ScalingReady") == ("False", "HandingOver")
    world.cluster.erase(HPA)
    world.settle()
    assert SCALED in world.cluster.objects
    assert list(world.revisions().values()) == [3]
    world.edit(scaling={"maxReplicas": 4, "scaler": "builtin"})
    assert SCALED not in world.cluster.objects
    assert list(world.revisions().values()) == [3]  # fewer only after the delay


def test_what_a_scaler_that_is_going_says_is_not_contradicted() -> None:
    world = scaled(scaler="hpa")
    resize(world, 3)
    world.cluster.finalizers.add("HorizontalPodAutoscaler")
    world.edit(scaling={"minReplicas": 1, "maxReplicas": 1})
    assert world.condition("ScalingReady") == ("False", "HandingOver")
    assert list(world.revisions().values()) == [3]
    world.cluster.erase(HPA)
    world.settle()
    assert list(world.revisions().values()) == [1]
    assert world.condition("ScalingReady") == ("True", "Fixed")


def test_keda_sees_requests_of_milliseconds_and_takes_no_silence_for_peace() -> None:
    world = World(settings=make_settings(prometheus="http://prometheus.monitoring:9090"))
    world.cluster.served.add("ScaledObject")
    world.engine.controller.serves("ScaledObject", True)
    world.create(trained_job(), deployment(scaling={"scaler": "keda", "minReplicas": 0, "maxReplicas": 4}))
    (trigger,) = spec_of(world, SCALED)["triggers"]
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    told = f'namespace="{NAMESPACE}",modeldeployment="{NAME}"'
    spent = f'sum(rate(modelyard_gateway_request_duration_seconds_sum{{{told},revision!=""}}[2m]))'
    running = f"sum(modelyard_gateway_running_requests{{{told}}})"
    queued = f"sum(modelyard_gateway_queued_requests{{{told}}})"
    assert trigger["metadata"]["query"] == f"{queued} + (({spent} > {running}) or {running})"


def test_suspended_nothing_scales() -> None:
    world = scaled(scaler="hpa")
    resize(world, 3)
    world.edit(suspend=True)
    assert HPA not in world.cluster.objects
    assert list(world.revisions().values()) == [0]
    world.edit(suspend=False)
    assert HPA in world.cluster.objects
    assert list(world.revisions().values()) == [1]


def test_a_profile_without_prometheus_is_told_so() -> None:
    world = World()
    world.create(trained_job(), deployment(scaling={"scaler": "keda"}))
    assert world.condition("Stalled") == ("True", "ProfileIncomplete")
    resource: Manifest = world.cluster.objects[KEY]
    assert resource["status"]["observedGeneration"] == 1
