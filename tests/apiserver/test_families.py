"""Custom resources below custom resources, and those that hang on others, on a real API server."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.apiserver.conftest import Kubectl
from tests.apiserver.inprocess import Bench, Scenario, build_crd, run_mortal_engines
from tests.fakes.harness import GADGET, GUEST, LISTENER, TOY, TROOP, resource


def test_a_parent_of_parents_goes_from_one_child_to_the_next_and_takes_all_of_them_along(
    engine: Callable[[Scenario], None],
) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create("t", TROOP, size=3)
        await bench.says(TROOP, "t", toys={"t-0": True, "t-1": True, "t-2": True})
        (pod,) = [
            p for p in json.loads(await bench.kubectl("get", "pods", "--output=json"))["items"]
            if p["metadata"]["name"].startswith("t-1-run")
        ]  # fmt: skip
        owners = {k: v for k, v in pod["metadata"]["labels"].items() if k.startswith("modelyard.dev/")}
        assert owners == {"modelyard.dev/toy": "t-1"}

        await bench.change("t", TROOP, suspend=True)
        for n in range(3):
            await bench.until("the suspension of each Job", partial(suspended, bench, f"t-{n}-run"))
            toy = await bench.get("toy", f"t-{n}")
            assert toy is not None
            # A child that is a custom resource has a status of its own, which stays its own.
            managers = {m["manager"]: m.get("subresource", "") for m in toy["metadata"]["managedFields"]}
            assert managers == {"modelyard": "", "modelyard-mutable": "", "modelyard-status": "status"}

        await bench.change("t", TROOP, size=2)
        await bench.until("the end of the third", lambda: gone(bench, ("toy", "t-2"), ("job", "t-2-run")))
        assert await bench.get("job", "t-1-run") is not None
        await bench.kubectl("delete", "troop", "t")
        below = [(kind, f"t-{n}{end}") for n in range(2) for kind, end in (("toy", ""), ("job", "-run"))]
        await bench.until("the end of all", lambda: gone(bench, *below), timeout=40)

    engine(scenario)


def test_a_settled_family_costs_no_calls(engine: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create("t", TROOP, size=2)
        await bench.says(TROOP, "t", toys={"t-0": True, "t-1": True})
        # One status for the first, and one for each child's first state and for its Job's being there.
        assert bench.writes("Toy") + bench.writes("Troop") <= 2 * 3 + 5
        before = bench.writes("Troop"), bench.writes("Toy")
        await bench.kubectl("annotate", "toy", "t-0", "a=user")
        await bench.kubectl("annotate", "job", "t-1-run", "a=user")
        await bench.create("g", GUEST, host="t-0")  # whatever comes later has been seen by then
        assert (bench.writes("Troop"), bench.writes("Toy")) == before

    engine(scenario)


def test_one_who_refers_hears_of_the_others_beginning_changes_and_end(
    engine: Callable[[Scenario], None],
) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create("h", GUEST, of="Guest", host="g")
        await bench.create("g", GUEST, host="a")
        await bench.says(GUEST, "g", value="nobody's")
        await bench.create("a", TOY, value="7")
        for guest in ("g", "h"):
            await bench.says(GUEST, guest, value="7")
        await bench.change("a", TOY, value="8")
        for guest in ("g", "h"):
            await bench.says(GUEST, guest, value="8")
        await bench.kubectl("delete", "toy", "a")
        for guest in ("g", "h"):
            await bench.says(GUEST, guest, value="nobody's")

    engine(scenario)


def test_engines_that_die_of_each_of_their_writes_bring_a_family_to_the_same_end(
    kubeconfig: str, kubectl: Kubectl, made_up_kinds: None, namespace: str
) -> None:
    def get(kind: str, name: str) -> dict[str, Any]:
        found = kubectl("get", kind, name, "--namespace", namespace, "--output=json").stdout
        return dict(json.loads(found))

    def create(*resources: dict[str, Any]) -> None:
        for made in resources:
            made["metadata"]["namespace"] = namespace
            kubectl("create", "-f", "-", input=json.dumps(made))

    create(resource("Troop", "t", size=2), resource("Guest", "g", host="t-1"))
    # At the least: two toys with two maps, claims, Jobs, an Event and a status each, and what the others say.
    assert run_mortal_engines(kubeconfig, namespace) >= 14
    uids = [get("job", f"t-{n}-run")["metadata"]["uid"] for n in range(2)]
    assert get("troop", "t")["status"]["toys"] == {"t-0": True, "t-1": True}
    assert get("guest", "g")["status"]["value"] == "1"

    kubectl(
        "patch", "troop", "t", "--namespace", namespace, "--type=merge", '--patch={"spec":{"suspend":true}}'
    )
    # Two toys, their Jobs, and what is said of each of the two and of their parent.
    assert run_mortal_engines(kubeconfig, namespace) >= 6
    for n in range(2):
        job = get("job", f"t-{n}-run")
        assert (job["spec"]["suspend"], job["metadata"]["uid"]) == (True, uids[n])
        assert get("toy", f"t-{n}")["status"]["observedGeneration"] == 2
    started = kubectl(
        "get", "events", "--namespace", namespace, "--field-selector=reason=Started", "--output=name"
    )
    assert len(started.stdout.split()) == 2


async def suspended(bench: Bench, job: str) -> bool:
    found = await bench.get("job", job)
    return found is not None and bool(found["spec"].get("suspend"))


async def gone(bench: Bench, *objects: tuple[str, str]) -> bool:
    found: list[Any] = [await bench.get(kind, name) for kind, name in objects]
    return not any(found)


def test_an_optional_kind_may_come_and_go_under_a_running_engine(
    engine: Callable[[Scenario], None],
) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create("l", LISTENER, pod="nobody", port=1, numbers=[])
        await bench.create("m", LISTENER, pod="nobody", port=1, numbers=[], insists=True)
        await bench.says(LISTENER, "l", gadgets=0, refused="nothing")
        await bench.says(LISTENER, "m", gadgets=0, refused="Gadget/m: NotServed")
        definition = json.dumps(build_crd(GADGET))
        await bench.kubectl("create", "-f", "-", input=definition)
        try:
            for name in ("l", "m"):
                await bench.says(LISTENER, name, gadgets=1, refused="nothing")
        finally:
            await bench.kubectl("delete", "crd", "gadgets.modelyard.dev", "--wait=true")
        await bench.says(LISTENER, "l", gadgets=0, refused="nothing")
        await bench.says(LISTENER, "m", gadgets=0, refused="Gadget/m: NotServed")

    engine(scenario)
