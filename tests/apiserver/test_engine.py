"""The engine with its real edge, in this process, on a made-up kind.

Ownership, pruning, garbage collection, status.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.apiserver.conftest import Kubectl
from tests.apiserver.inprocess import Bench, Forgetful, Scenario, run_beside_engine


def managers(obj: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """By manager: operation and subresource."""
    fields = obj["metadata"]["managedFields"]
    return {m["manager"]: (m["operation"], m.get("subresource", "")) for m in fields}


def test_fields_have_the_managers_that_others_may_rely_on(engine: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create()
        toy, job = await bench.get("toy", "a"), await bench.get("job", "a-run")
        assert toy is not None
        assert job is not None
        assert managers(toy)["modelyard-status"] == ("Apply", "status")
        assert "modelyard" not in managers(toy)  # a user's spec, labels and annotations are the user's
        assert managers(job)["modelyard"] == ("Apply", "")
        await bench.change(suspend=True)
        job = await bench.get("job", "a-run")
        assert job is not None
        assert job["spec"]["suspend"] is True
        assert managers(job)["modelyard-mutable"] == ("Apply", "")
        assert managers(job)["modelyard"] == ("Apply", "")

    engine(scenario)


def test_a_field_that_leaves_the_plan_leaves_the_object_and_others_fields_stay(
    engine: Callable[[Scenario], None],
) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create(value="1")
        await bench.kubectl("annotate", "configmap", "a-settings", "others=stay")
        await bench.change(value="2")
        settings = await bench.get("configmap", "a-settings")
        assert settings is not None
        assert settings["data"] == {"value": "2"}
        assert settings["metadata"]["annotations"]["others"] == "stay"

    engine(scenario)


def test_drift_is_repaired_and_deleted_children_come_back(engine: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create()
        await bench.kubectl(
            "patch", "configmap", "a-settings", "--type=merge", "--patch", '{"data":{"value":"x"}}'
        )

        async def repaired() -> bool:
            found = await bench.get("configmap", "a-settings")
            return found is not None and found["data"] == {"value": "1"}

        await bench.until("the repair", repaired)
        await bench.kubectl("delete", "configmap", "a-settings")
        await bench.until("the return", repaired)
        assert bench.writes("ConfigMap") == 3

    engine(scenario)


def test_a_pruned_job_takes_its_pods_along(engine: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create()

        async def pods() -> list[Any]:
            items: list[Any] = json.loads(await bench.kubectl("get", "pods", "--output=json"))["items"]
            return items

        (pod,) = await bench.until("the pod", pods)
        assert pod["metadata"]["labels"]["modelyard.dev/toy"] == "a"
        await bench.change(done=True)

        async def gone() -> bool:
            return await bench.get("job", "a-run") is None and not await pods()

        await bench.until("the end of both", gone)
        assert bench.writes("Job") == 2

    engine(scenario)


def test_what_a_resource_owns_goes_with_it_and_what_is_detached_stays(
    engine: Callable[[Scenario], None],
) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create()
        await bench.kubectl("delete", "toy", "a")

        async def gone() -> bool:
            return (
                await bench.get("job", "a-run") is None and await bench.get("configmap", "a-settings") is None
            )

        await bench.until("garbage collection", gone, timeout=30)
        assert await bench.get("pvc", "a-storage") is not None
        await bench.create()
        toy = await bench.get("toy", "a")
        assert toy is not None
        assert "a-storage" in toy["status"]["children"]

    engine(scenario)


def test_a_resource_made_anew_under_the_same_name_starts_from_nothing(
    engine: Callable[[Scenario], None],
) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create()
        old = await bench.get("job", "a-run")
        await bench.kubectl("delete", "toy", "a", "--wait=true")
        await bench.create()

        async def fresh() -> bool:
            job = await bench.get("job", "a-run")
            return job is not None and old is not None and job["metadata"]["uid"] != old["metadata"]["uid"]

        await bench.until("the new Job", fresh, timeout=40)

    engine(scenario)


def test_what_an_orphaning_deletion_leaves_is_not_taken_for_the_next_resources(
    engine: Callable[[Scenario], None],
) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create()
        await bench.kubectl("delete", "toy", "a", "--cascade=orphan", "--wait=true")
        left = await bench.get("job", "a-run")
        assert left is not None and "ownerReferences" not in left["metadata"]
        await bench.create()
        toy = await bench.get("toy", "a")
        assert toy is not None
        assert toy["status"]["refused"] == {"ConfigMap/a-settings": "NameTaken"}
        assert "a-run" not in toy["status"]["children"]

    engine(scenario)


@pytest.mark.parametrize("value", ["mine", "1"])  # the second is what ours would say
def test_a_name_taken_by_a_users_object_is_reported_and_the_object_left(
    engine: Callable[[Scenario], None], value: str
) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.kubectl("create", "configmap", "a-settings", f"--from-literal=value={value}")
        await bench.create()
        toy, users = await bench.get("toy", "a"), await bench.get("configmap", "a-settings")
        assert toy is not None and users is not None
        assert toy["status"]["refused"] == {"ConfigMap/a-settings": "NameTaken"}
        assert users["data"] == {"value": value}
        assert {"ownerReferences", "labels"}.isdisjoint(users["metadata"])
        await bench.kubectl("delete", "configmap", "a-settings")

        async def made() -> bool:
            found = await bench.get("configmap", "a-settings")
            return found is not None and "ownerReferences" in found["metadata"]

        await bench.until("ours", made, timeout=70)

    engine(scenario)


def test_children_whose_making_no_answer_told_of_are_gone_on_with(
    kubeconfig: str, kubectl: Kubectl, made_up_kinds: None, namespace: str
) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create()
        toy, job = await bench.get("toy", "a"), await bench.get("job", "a-run")
        assert toy is not None and job is not None
        assert toy["status"]["refused"] == {}
        assert {"a-run", "a-settings", "a-storage"} <= set(toy["status"]["children"])
        assert managers(job)["modelyard"] == ("Apply", "")
        items = json.loads(await bench.kubectl("get", "events", "--output=json"))["items"]
        assert [e["reason"] for e in items if e["involvedObject"]["kind"] == "Toy"] == ["Started"]
        await bench.change(value="2")
        settings = await bench.get("configmap", "a-settings")
        assert settings is not None and settings["data"] == {"value": "2"}

    run_beside_engine(kubeconfig, kubectl, namespace, scenario, Forgetful)


def test_an_event_tells_of_each_transition_once(engine: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create()
        selector = "--field-selector=involvedObject.kind=Toy"
        items = json.loads(await bench.kubectl("get", "events", selector, "--output=json"))["items"]
        assert [(e["reason"], e["source"]["component"]) for e in items] == [("Started", "modelyard")]

    engine(scenario)
