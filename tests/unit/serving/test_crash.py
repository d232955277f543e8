"""The operator dies at every write of a deployment's life in turn; the next one reaches the same end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.serving.world import DIGEST, World, built, deployment, trained_job

OTHER = "sha256-" + "2" * 64


def live(world: World) -> World:
    """A life: served, trained anew, other servers, suspended and resumed, no gate passed."""
    world.create(trained_job(), deployment(scaling={"scaler": "none"}, replicas=2))
    world.result = built(digest=OTHER)
    world.train_anew(OTHER).wait(3)
    world.edit(server={"maxBatchDelayMilliseconds": 9}).wait(3)
    world.edit(suspend=True)
    world.edit(suspend=False)
    world.result = {
        "stage": "build", "outcome": "failed", "failure": {"reason": "CompressionGateFailed", "message": "No."}
    }  # fmt: skip
    world.exit_code = 2
    return world.edit(compression={"method": "int8"}).wait(3)


def end_state(world: World) -> dict[str, Any]:
    """All objects without what names a moment or an object."""
    state: dict[str, Any] = {}
    for key, obj in world.cluster.objects.items():
        metadata = {k: v for k, v in obj["metadata"].items() if k in ("name", "labels", "annotations")}
        left = {k: v for k, v in obj.items() if k not in ("metadata", "status")}
        state[str(key)] = {"metadata": metadata, **left}
    status = world.status
    state["conditions"] = [(c["type"], c["status"], c["reason"]) for c in status["conditions"]]
    state["revisions"] = [(r["name"], r["state"], r["weight"]) for r in status["revisions"]]
    state["compression"] = status["compression"]
    return state


def undisturbed() -> tuple[dict[str, Any], list[int]]:
    """The end, and the numbers of the writes that the server took."""
    world, taken = World(), []
    world.cluster.after = lambda n, call: taken.append(n)
    return end_state(live(world)), taken


EXPECTED, WRITES = undisturbed()


def test_the_life_ends_as_it_should() -> None:
    assert ("Ready", "True", "Serving") in EXPECTED["conditions"]
    assert ("Stalled", "True", "CompressionGateFailed") in EXPECTED["conditions"]
    assert [state for _, state, _ in EXPECTED["revisions"]] == ["Serving", "Retired", "Retired"]
    assert DIGEST not in str(EXPECTED["conditions"])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", WRITES)
def test_an_operator_that_dies_at_a_write_is_followed_by_one_that_reaches_the_same_end(
    number: int, when: str
) -> None:
    world = World()
    died = world.let_die(number, when)
    assert end_state(live(world)) == EXPECTED
    assert died
