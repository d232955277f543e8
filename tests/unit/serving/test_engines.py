"""Which server serves, and how it is started."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from modelyard.api.modeldeployment import ModelDeploymentSpec
from modelyard.contract import codes
from modelyard.engine.plan import Key
from modelyard.serving.engines.engine import choose

from tests.builders import make_settings
from tests.podsecurity import assert_restricted
from tests.unit.serving.world import NAME, NAMESPACE, World, built, deployment, trained_job

GPU = {"limits": {"nvidia.com/gpu": 2, "cpu": "8", "memory": "64Gi"}}
PATH = f"{codes.STORAGE_PATH}/packages/x/none"


def spec(**fields: Any) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate({"model": {"uri": "pvc://a/b"}, **fields})


@pytest.mark.parametrize(
    ("task", "fields", "image", "engine"),
    [
        ("text-generation", {"server": {"resources": GPU}}, "vllm:1", "vllm"),
        ("text-generation", {"server": {"resources": GPU}}, "", "builtin"),
        ("text-generation", {}, "vllm:1", "builtin"),
        ("text-classification", {"server": {"resources": GPU}}, "vllm:1", "builtin"),
        ("text-generation", {"server": {"resources": GPU}, "engine": {"type": "builtin"}}, "vllm:1", "builtin"),
        (
            "text-generation", {"server": {"resources": GPU}, "compression": {"method": "int8"}}, "vllm:1",
            "builtin",
        ),
        (None, {"engine": {"type": "vllm"}}, "vllm:1", "vllm"),
        ("text-generation", {"server": {"resources": {"limits": {"nvidia.com/gpu": "1000m"}}}}, "vllm:1", "vllm"),
        ("text-generation", {"server": {"resources": {"limits": {"nvidia.com/gpu": "0"}}}}, "vllm:1", "builtin"),
        ("text-generation", {"server": {"resources": {"limits": {"nvidia.com/mig-1g.10gb": 1}}}}, "vllm:1", "vllm"),
        ("text-generation", {"server": {"resources": {"limits": {"nvidia.com/gpu.shared": 1}}}}, "vllm:1", "vllm"),
        ("text-generation", {"server": {"resources": {"limits": {"x.com/migrator": 1}}}}, "vllm:1", "builtin"),
    ],
)  # fmt: skip
def test_auto_takes_vllm_for_generation_on_an_accelerator_where_its_image_is_named(
    task: str | None, fields: dict[str, Any], image: str, engine: str
) -> None:
    profile = make_settings(vllm_image=image).profiles["default"]
    assert choose(spec(**fields), profile, task) == engine


def serve(**fields: Any) -> tuple[World, dict[str, Any]]:
    """A deployment's server pods, as they were asked for."""
    world = World(settings=make_settings(vllm_image="registry.example/vllm:1"))
    world.result = built(task=fields.pop("task", "text-generation"))
    world.create(trained_job(), deployment(**fields))
    (revision,) = world.revisions()
    pod: dict[str, Any] = world.cluster.objects[Key("Deployment", NAMESPACE, f"{NAME}-{revision}")]["spec"][
        "template"
    ]["spec"]
    assert_restricted(pod)
    return world, pod


def test_vllm_is_told_the_model_its_devices_and_the_users_arguments_last() -> None:
    engine = {"type": "vllm", "args": ["--gpu-memory-utilization", "0.5"]}
    world, pod = serve(engine=engine, server={"resources": GPU, "maxLength": 4096})
    (container,) = pod["containers"]
    assert container["image"] == "registry.example/vllm:1"
    args = container["args"]
    assert args[args.index("--model") + 1] == PATH
    assert args[args.index("--served-model-name") + 1] == NAME
    assert args[args.index("--tensor-parallel-size") + 1] == "2"
    assert args[args.index("--max-model-len") + 1] == "4096"
    assert args[-2:] == ["--gpu-memory-utilization", "0.5"]
    assert args[args.index("--generation-config") + 1] == "vllm"
    # Without it vLLM breaks off what runs as soon as it is told to end.
    grace = pod["terminationGracePeriodSeconds"]
    assert int(args[args.index("--shutdown-timeout") + 1]) == grace - 10 == 120
    # Options that releases of today don't know are errors there.
    assert "--disable-log-requests" not in args
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    assert container["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    # What the built-in server can't load is not measured with it; to read its files takes no accelerator.
    (job,) = (o for k, o in world.cluster.objects.items() if k.kind == "Job")
    assert '"measure":false' in str(job["spec"]["template"]["metadata"]["annotations"])
    (build,) = job["spec"]["template"]["spec"]["containers"]
    size = {"cpu": "8", "memory": "64Gi"}
    assert build["resources"] == {"limits": size, "requests": size}


def test_a_model_is_measured_on_the_accelerators_that_its_servers_have() -> None:
    world, _ = serve(engine={"type": "builtin"}, server={"resources": GPU})
    (job,) = (o for k, o in world.cluster.objects.items() if k.kind == "Job")
    (build,) = job["spec"]["template"]["spec"]["containers"]
    assert build["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_vllm_is_spread_over_whole_devices_and_not_over_slices_of_them() -> None:
    for name in ("nvidia.com/mig-1g.10gb", "nvidia.com/mig-1g.10gb.shared", "nvidia.com/gpu.shared"):
        _, pod = serve(engine={"type": "vllm"}, server={"resources": {"limits": {name: 2}}})
        args = pod["containers"][0]["args"]
        assert args[args.index("--tensor-parallel-size") + 1] == "1"


def test_figures_of_the_built_in_server_are_not_those_of_vllm() -> None:
    world, _ = serve(server={"resources": GPU}, scaling={"minReplicas": 1, "maxReplicas": 4})
    (revision,) = world.revisions()
    service = world.cluster.objects[Key("Service", NAMESPACE, f"{NAME}-{revision}")]
    assert "modelyard.dev/concurrency" not in service["metadata"]["labels"]
    world, _ = serve(scaling={"minReplicas": 1, "maxReplicas": 4})
    (revision,) = world.revisions()
    service = world.cluster.objects[Key("Service", NAMESPACE, f"{NAME}-{revision}")]
    assert int(service["metadata"]["labels"]["modelyard.dev/concurrency"]) > 0


def test_without_a_profile_nobody_knows_whose_figures_hold_for_text() -> None:
    world, _ = serve(server={"resources": GPU}, scaling={"minReplicas": 1, "maxReplicas": 8})
    world.edit(profile="gone")
    assert world.condition("Stalled") == ("True", "ProfileNotFound")
    world.load.put(running=15, rate=15.0)
    world.wait(20)
    assert list(world.revisions().values()) == [2]  # of 8 at once; the built-in server's knee would be 3


def test_a_server_of_the_users_own_is_started_as_they_say() -> None:
    custom = {
        "image": "registry.example/mine:1", "command": ["serve"], "args": ["--quiet"], "port": 9000,
        "protocol": "openai", "readinessPath": "/ready", "env": [{"name": "MODE", "value": "fast"}],
    }  # fmt: skip
    world, pod = serve(engine={"type": "custom", "custom": custom})
    (container,) = pod["containers"]
    assert (container["image"], container["command"], container["args"]) == (
        "registry.example/mine:1", ["serve"], ["--quiet"]
    )  # fmt: skip
    env = {v["name"]: v.get("value") for v in container["env"]}
    assert (env["MODE"], env["MODELYARD_MODEL_PATH"], env["MODELYARD_MODEL_NAME"]) == ("fast", PATH, NAME)
    assert container["ports"] == [{"name": "http", "containerPort": 9000, "protocol": "TCP"}]
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "http", "scheme": "HTTP"}
    assert "livenessProbe" not in container
    before = world.revisions()
    assert speaks(world) == dict.fromkeys(before, "openai")
    world.edit(engine={"type": "custom", "custom": {**custom, "image": "registry.example/mine:2"}})
    world.wait(3)
    assert world.revisions() != before


def speaks(world: World) -> dict[str, str | None]:
    """What gateways are told of the servers, by revision id."""
    return {
        revision: world.cluster.objects[Key("Service", NAMESPACE, f"{NAME}-{revision}")]["metadata"][
            "labels"
        ].get("modelyard.dev/speaks")
        for revision in world.revisions()
    }


GATEWAY = Key("Deployment", NAMESPACE, f"{NAME}-gateway")


@pytest.mark.parametrize("engine", ["vllm", "custom"])
def test_another_engine_is_the_new_revisions_and_no_gateway_hears_of_it_before(engine: str) -> None:
    world, _ = serve(task="embeddings")
    before = copy.deepcopy(world.cluster.objects[GATEWAY]["spec"])
    (old,) = world.revisions()
    world.well = {old}
    custom = {"image": "mine:1", "protocol": "oip"} if engine == "custom" else None
    world.edit(engine={"type": engine, **({"custom": custom} if custom else {})}, task="text-generation")
    (new,) = set(world.revisions()) - {old}
    other = "oip" if engine == "custom" else "vllm"
    assert (world.weights(), speaks(world)) == ({old: 100, new: 0}, {old: "builtin", new: other})
    world.well = None
    world.wait(3)
    assert speaks(world) == {new: other}
    assert world.cluster.objects[GATEWAY]["spec"] == before


def test_a_revision_of_a_release_before_stays_as_it_is_and_says_nothing_of_its_paths() -> None:
    world, _ = serve()
    (old,) = world.revisions()
    made = Key("Deployment", NAMESPACE, f"{NAME}-{old}")
    world.cluster.change(made, lambda o: o["metadata"]["annotations"].pop("modelyard.dev/speaks"))
    world.settle()  # the Service is now as that release has left it
    assert speaks(world) == {old: None}
    before, writes = copy.deepcopy(world.cluster.objects[made]), len(world.cluster.calls)
    world.restart().settle().wait(60, step=10)
    assert world.cluster.operations()[writes:] == []
    assert world.cluster.objects[made] == before
    world.edit(server={"maxBatchDelayMilliseconds": 9})
    world.wait(3)
    assert list(speaks(world).values()) == ["builtin"]


def test_vllm_without_an_image_is_refused_with_what_the_profile_lacks() -> None:
    world = World()
    world.create(trained_job(), deployment(engine={"type": "vllm"}))
    assert world.condition("Stalled") == ("True", "ProfileIncomplete")


def test_what_a_build_measured_before_it_failed_is_told() -> None:
    failed = {
        **built("int8", variants=[{"name": "int8", "agreement": 0.5, "passed": False, "reason": "0.5 is less."}]),
        "outcome": "failed", "failure": {"reason": "CompressionGateFailed", "message": "No."},
    }  # fmt: skip
    world = World(result=failed, exit_code=2)
    world.create(trained_job(), deployment(compression={"method": "int8"}))
    (variant,) = world.status["build"]["variants"]
    assert (variant["name"], variant["agreement"], variant["passed"]) == ("int8", 0.5, False)
