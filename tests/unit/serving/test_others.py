"""Others that scale what the operator scales: overruled, and said."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard.engine.plan import Key

from tests.fakes.cluster import Call
from tests.unit.serving.world import KEY, NAME, NAMESPACE, World, deployment, trained_job

AUTOSCALER = "kube-controller-manager"


def serve(**scaling: Any) -> World:
    world = World()
    world.create(trained_job(), deployment(scaling=scaling))
    return world


def servers(world: World) -> Key:
    (revision,) = world.revisions()
    return Key("Deployment", NAMESPACE, f"{NAME}-{revision}")


def message(world: World) -> str:
    return next(str(c["message"]) for c in world.status["conditions"] if c["type"] == "ScalingReady")


def warnings(world: World) -> list[str]:
    return [e["reason"] for e in world.cluster.events.values() if e["type"] == "Warning"]


@pytest.mark.parametrize(
    ("scaling", "reason"),
    [
        ({"minReplicas": 2, "maxReplicas": 2}, "Fixed"),
        ({"minReplicas": 2, "maxReplicas": 4}, "Following"),
    ],
)
def test_who_scales_the_servers_themselves_is_overruled_and_told_of_until_it_ends(
    scaling: dict[str, Any], reason: str
) -> None:
    world = serve(**scaling)
    assert world.condition("ScalingReady") == ("True", reason)
    world.cluster.scale(servers(world), 1, AUTOSCALER)
    world.settle()
    assert world.condition("ScalingReady") == ("False", "Contested")
    assert AUTOSCALER in message(world) and servers(world).name in message(world)
    assert list(world.revisions().values()) == [2]
    assert world.condition("Ready") == ("True", "Serving")
    # It looks again every 15 s: told once, and no flapping between its looks.
    for _ in range(4):
        world.wait(15, step=5)
        assert world.condition("ScalingReady") == ("False", "Contested")
        world.cluster.scale(servers(world), 1, AUTOSCALER)
        world.settle()
        assert list(world.revisions().values()) == [2]
    assert warnings(world) == ["Contested"]
    world.wait(320, step=20)
    assert world.condition("ScalingReady") == ("True", reason)


@pytest.mark.parametrize(
    "scaling", [{"minReplicas": 2, "maxReplicas": 2}, {"minReplicas": 2, "maxReplicas": 4}]
)
def test_a_contest_that_lasts_is_one_contest(scaling: dict[str, Any]) -> None:
    world = serve(**scaling)
    reasons: list[Any] = []

    def note(number: int, call: Call) -> None:
        if call.operation == "status":
            reasons.append(world.condition("ScalingReady"))

    world.cluster.after = note
    for _ in range(50):  # 750 s
        world.cluster.scale(servers(world), 1, AUTOSCALER)
        world.settle()
        assert list(world.revisions().values()) == [2]
        world.wait(15, step=5)
    assert set(reasons) == {("False", "Contested")}
    assert warnings(world) == ["Contested"]
    assert len(reasons) <= 2 * 750 / 60 + 2
    world.wait(320, step=20)
    assert world.condition("ScalingReady") != ("False", "Contested")
    assert "contestTime" not in world.status


def test_more_servers_than_the_load_asks_for_are_overruled_as_soon_as_fewer() -> None:
    world = serve(minReplicas=1, maxReplicas=20)
    world.wait(70, step=5)
    world.cluster.scale(servers(world), 10, AUTOSCALER)
    world.settle()
    assert world.condition("ScalingReady") == ("False", "Contested")
    assert list(world.revisions().values()) == [1]
    assert world.status["scaling"]["desired"] == 1
    # A load that asks for more is heeded beside the contest, and that number is nobody else's.
    world.load.put(running=30, rate=30)
    world.wait(20)
    (size,) = world.revisions().values()
    assert 1 < size == world.status["scaling"]["desired"]


def test_replicas_by_hand_are_of_the_deployment_itself() -> None:
    world = serve(scaler="none")
    world.cluster.scale(KEY, 3, "kubectl")
    world.settle()
    assert list(world.revisions().values()) == [3]
    assert world.condition("ScalingReady") == ("True", "Manual")
    world.cluster.scale(servers(world), 5, "kubectl")
    world.settle()
    assert list(world.revisions().values()) == [3]
    assert world.condition("ScalingReady") == ("False", "Contested")


def test_a_scale_that_nobody_heeds_is_said() -> None:
    world = serve(minReplicas=1, maxReplicas=4)
    world.cluster.scale(KEY, 3, AUTOSCALER)
    world.settle()
    assert list(world.revisions().values()) == [1]
    assert world.condition("ScalingReady") == ("True", "ScaleIgnored")
    assert "scaler: none" in message(world) and AUTOSCALER in message(world)
    world.edit(scaling={"scaler": "none"})
    assert list(world.revisions().values()) == [3]
    assert world.condition("ScalingReady") == ("True", "Manual")


def test_what_an_autoscaler_of_our_own_has_left_is_no_contest() -> None:
    world = serve(scaler="hpa", maxReplicas=4)
    world.cluster.scale(servers(world), 3, AUTOSCALER)
    world.settle()
    world.edit(scaling={"minReplicas": 2, "maxReplicas": 2})
    assert list(world.revisions().values()) == [2]
    assert world.condition("ScalingReady") == ("True", "Fixed")
    world = serve(scaler="hpa", maxReplicas=4)
    world.cluster.scale(servers(world), 3, AUTOSCALER)
    world.settle()
    world.edit(scaling={"maxReplicas": 4})
    world.wait(60, step=5)
    assert world.condition("ScalingReady") == ("True", "Following")
    assert warnings(world) == []
