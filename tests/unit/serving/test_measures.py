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


def test_its_series_are_those_of_its_status() -> None:
    world = World()
    world.create(trained_job(), deployment(scaling={"minReplicas": 1, "maxReplicas": 3}, replicas=2))
    found = read(world)
    assert found["info", "", "care", "default", "text-classification", "none"] == 1
    assert found["condition", "Ready"] == 1
    assert (found["replicas", "desired"], found["replicas", "ready"]) == (2, 2)
    assert found["desired_replicas",] == 2
    assert found["revisions", "Serving"] == 1
    assert {family.name.rsplit("_", 1)[0] for family in FAMILIES} >= {"modelyard_modeldeployment"}
    assert world.engine.metrics.render().decode().count('phase="Ready"') == 1
