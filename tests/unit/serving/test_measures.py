"""What Prometheus is told of a deployment."""

from __future__ import annotations

from modelyard.serving.status.measures import FAMILIES, MEASURE

from tests.unit.serving.world import KEY, World, deployment, trained_job


def read(world: World) -> dict[tuple[str, ...], float]:
    prefix = "modelyard_modeldeployment_"
    resource = world.cluster.objects[KEY]
    assert MEASURE.is_live(resource)
    return {(s.family.removeprefix(prefix), *s.labels): s.value for s in MEASURE.read(resource)}


def test_a_deployment_has_series_from_its_first_moment_to_its_last() -> None:
    world = World(result=None)
    world.create(deployment())
    found = read(world)
    assert found["info", "", "care", "default", "", ""] == 1
    assert found["condition", "Ready"] == 0
    assert found["replicas", "ready"] == 0
    assert found["revisions", "Serving"] == 0
    assert (found["max_replicas",], found["timeout_seconds",]) == (1, 60)
    assert not {"scaling_reason", "failing_revisions"} & {family for family, *_ in found}


def test_its_series_are_those_of_its_status() -> None:
    world = World()
    world.create(trained_job(), deployment(scaling={"minReplicas": 1, "maxReplicas": 3}, replicas=2))
    found = read(world)
    assert found["info", "", "care", "default", "text-classification", "none"] == 1
    assert found["condition", "Ready"] == 1
    assert (found["replicas", "desired"], found["replicas", "ready"]) == (2, 2)
    assert found["desired_replicas",] == 2
    assert found["max_replicas",] == 3
    (reason,) = [labels for family, *labels in found if family == "scaling_reason"]
    assert reason == [world.status["scaling"]["reason"]]
    assert found["revisions", "Serving"] == 1
    assert {family.name.rsplit("_", 1)[0] for family in FAMILIES} >= {"modelyard_modeldeployment"}
    assert world.engine.metrics.render().decode().count('phase="Ready"') == 1


def test_bounds_are_those_of_the_spec() -> None:
    world = World()
    world.create(deployment(scaling={"scaler": "none"}, replicas=4, traffic={"timeoutSeconds": 7}))
    found = read(world)
    assert (found["max_replicas",], found["timeout_seconds",]) == (4, 7)


def test_a_revision_whose_servers_fail_says_why() -> None:
    world = World(well=set(), words={"reason": "ModelUnproven", "message": "its answers differ"})
    world.create(trained_job(), deployment())
    assert read(world)["failing_revisions", "ModelUnproven"] == 1
