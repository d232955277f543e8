"""The built pods: a golden one to read, and properties that hold for all of them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from modelyard.api.profile import Settings
from modelyard.contract import codes
from modelyard.contract.run import RunConfig
from modelyard.engine.plan import Manifest, Seen
from modelyard.training import plan_job
from modelyard.training.children import pods
from modelyard.workloads.pods import overlay
from modelyard.workloads.problem import Refused

from tests.builders import TrainingJobBuilder, make_settings
from tests.podsecurity import assert_restricted

GOLDEN = Path(__file__).parent / "golden"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DATA = {"digest": "sha256-data", "modelDigest": "sha256-model", "rowsIn": 9, "rowsOut": 8}
PROFILE = {
    "node_selector": {"pool": "gpu"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "image_pull_secrets": ["registry"],
    "priority_class_name": "batch",
    "env": [{"name": "HTTPS_PROXY", "value": "http://p"}],
}


def children(
    builder: TrainingJobBuilder, stage: str = "train", profiles: Settings | None = None
) -> dict[str, Manifest]:
    """The objects of a stage by kind."""
    job = builder.build()
    if stage == "train" and "data" in job["spec"]:
        job["status"] = {"prepareAttempt": 1, "data": DATA}
    plan = plan_job(job, Seen(), NOW, profiles or make_settings())
    assert plan.children, plan.status["conditions"]
    return {child.manifest["kind"]: child.manifest for child in plan.children}


def pod_of(
    builder: TrainingJobBuilder, stage: str = "train", profiles: Settings | None = None
) -> dict[str, Any]:
    """Its pod's spec."""
    spec: dict[str, Any] = children(builder, stage, profiles)["Job"]["spec"]["template"]["spec"]
    return spec


def env_of(pod: dict[str, Any]) -> dict[str, str]:
    """Variables with values."""
    return {v["name"]: v.get("value", "") for v in pod["containers"][0]["env"]}


def run_config(builder: TrainingJobBuilder) -> RunConfig:
    """The run config of a job."""
    return RunConfig.model_validate_json(told(builder, "prepare"))


def told(builder: TrainingJobBuilder, stage: str) -> str:
    """The run config as the pods of a stage find it."""
    template = children(builder, stage)["Job"]["spec"]["template"]
    volume = next(v for v in template["spec"]["volumes"] if v["name"] == pods.RUN_VOLUME)
    mount = next(m for m in template["spec"]["containers"][0]["volumeMounts"] if m["name"] == pods.RUN_VOLUME)
    (item,) = volume["downwardAPI"]["items"]
    assert f"{mount['mountPath']}/{item['path']}" == codes.RUN_CONFIG_PATH
    name = re.fullmatch(r"metadata\.annotations\['(.+)'\]", item["fieldRef"]["fieldPath"])
    assert name is not None
    text: str = template["metadata"]["annotations"][name.group(1)]
    return text


GOLDENS = {
    "prepare": (TrainingJobBuilder(), "prepare"),
    "train": (
        TrainingJobBuilder()
        .nodes(2)
        .limits(cpu="4", memory="8Gi")
        .label("modelyard.dev/team", "care")
        .label("kueue.x-k8s.io/queue-name", "team-a")
        .label("other", "not copied"),
        "train",
    ),
    "command": (TrainingJobBuilder().command("python", "train.py"), "train"),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_is_as_written_down(name: str) -> None:
    """To accept a change: delete the file, run the test twice, read the difference."""
    builder, stage = GOLDENS[name]
    objects = children(builder, stage, make_settings(**PROFILE))
    annotations = objects["Job"]["spec"]["template"]["metadata"]["annotations"]
    RunConfig.model_validate_json(annotations[codes.RUN_CONFIG_ANNOTATION])
    annotations[codes.RUN_CONFIG_ANNOTATION] = "…"  # tested below, and nothing to read as one line
    text = yaml.safe_dump_all([objects[k] for k in sorted(objects)], sort_keys=False, width=110)
    path = GOLDEN / f"{name}.yaml"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        pytest.fail(f"{path} was missing and has been written; read it and commit it")
    assert text == path.read_text()


@pytest.mark.parametrize("name", GOLDENS)
def test_pods_are_restricted(name: str) -> None:
    assert_restricted(pod_of(*GOLDENS[name]))


def test_sources_and_model_are_mounted_read_only_and_each_claim_once() -> None:
    builder = (
        TrainingJobBuilder()
        .spec("storage", {"uri": "pvc://models/out"})
        .spec(
            "data.sources",
            [
                {"name": "a", "uri": "pvc://inputs/a.csv"},
                {"name": "b", "uri": "pvc://inputs/b.csv"},
                {"name": "c", "uri": "configmap://small/c.csv"},
                {"name": "d", "uri": "https://example.org/d.csv"},
            ],
        )
    )
    pod = pod_of(builder, "prepare")
    assert_restricted(pod)
    mounts = {m["mountPath"]: m for m in pod["containers"][0]["volumeMounts"]}
    assert {p for p in mounts if p.startswith("/modelyard/sources")} == {
        "/modelyard/sources/pvc/inputs",
        "/modelyard/sources/pvc/models",
        "/modelyard/sources/configmap/small",
    }
    assert all(mounts[p]["readOnly"] for p in mounts if p.startswith("/modelyard/sources"))
    assert mounts["/modelyard/storage"]["subPath"] == "out"
    config_maps = [v["configMap"] for v in pod["volumes"] if "configMap" in v]
    assert {"name": "small", "optional": True} in config_maps


def test_train_pods_mount_no_sources() -> None:
    mounts = [m["mountPath"] for m in pod_of(TrainingJobBuilder())["containers"][0]["volumeMounts"]]
    assert not [path for path in mounts if path.startswith("/modelyard/sources")]


def test_shared_memory_is_half_of_the_limit_and_at_most_64_gib() -> None:
    def size(memory: str) -> str:
        volumes = pod_of(TrainingJobBuilder().limits(memory=memory))["volumes"]
        return str(next(v["emptyDir"]["sizeLimit"] for v in volumes if v["name"] == "modelyard-shm"))

    assert size("8Gi") == str(4 * 2**30)
    assert size("400Gi") == str(64 * 2**30)


def test_threads_follow_the_cpu_limit_where_there_is_no_gpu() -> None:
    builder = TrainingJobBuilder().limits(cpu="5500m").spec("trainer.numProcPerNode", 2)
    assert env_of(pod_of(builder))["OMP_NUM_THREADS"] == "2"
    assert env_of(pod_of(builder))["DS_ACCELERATOR"] == "cpu"
    for name in ("nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "nvidia.com/gpu.shared"):
        assert "DS_ACCELERATOR" not in env_of(pod_of(TrainingJobBuilder().limits(**{name: "1"})))


def test_each_whole_accelerator_has_a_process_and_slices_of_them_have_one_together() -> None:
    for limits, processes in (
        ({"nvidia.com/gpu": "4"}, "4"),
        ({"nvidia.com/mig-1g.10gb": "4"}, "1"),
        ({"nvidia.com/gpu.shared": "4"}, "1"),
        ({"cpu": "4"}, "1"),
    ):
        assert (
            env_of(pod_of(TrainingJobBuilder().limits(**limits)))["MODELYARD_NUM_PROC_PER_NODE"] == processes
        )


def test_users_variables_win_over_the_profiles_and_secrets_stay_references() -> None:
    key = {"name": "hub", "key": "token"}
    builder = TrainingJobBuilder().spec(
        "trainer.env",
        [{"name": "HTTPS_PROXY", "value": "http://mine"}, {"name": "HF_TOKEN", "secretKeyRef": key}],
    )
    pod = pod_of(builder, profiles=make_settings(**PROFILE))
    assert_restricted(pod)
    assert env_of(pod)["HTTPS_PROXY"] == "http://mine"
    assert {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": key}} in pod["containers"][0]["env"]


def test_an_overlays_grace_period_reaches_the_agent() -> None:
    builder = TrainingJobBuilder().spec(
        "trainer.podTemplate", {"spec": {"terminationGracePeriodSeconds": 300}}
    )
    pod = pod_of(builder)
    assert pod["terminationGracePeriodSeconds"] == 300
    assert env_of(pod)["MODELYARD_GRACE_SECONDS"] == "300"


def test_an_own_claim_takes_the_users_wishes_over_the_profiles() -> None:
    claim = {"size": "7Gi", "accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "retain": True}
    job = TrainingJobBuilder().spec("storage", {"claim": claim}).build()
    child = plan_job(job, Seen(), NOW, make_settings()).children[0]
    assert child.detached
    assert child.manifest["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "7Gi"}},
        "storageClassName": "fast",
    }


def test_the_run_config_leaves_nothing_open() -> None:
    builder = TrainingJobBuilder().nodes(2).argument("evalOnStart", True).gate(0.5)
    builder.spec("training.maxSteps", 200).spec("training.globalBatchSize", 192)
    builder.spec("gate.earlyStopping", {"patience": 2})
    config = run_config(builder)
    training = config.training
    assert (training.per_device_train_batch_size, training.gradient_accumulation_steps) == (32, 3)
    assert training.args == {"eval_on_start": True}
    assert (training.num_train_epochs, training.max_steps, training.eval_steps) == (None, 200, 20)
    assert config.checkpoint.max_lost_seconds == 600
    assert config.gate is not None
    assert config.gate.patience == 2
    assert config.deepspeed["zero_optimization"] == {"stage": 1}
    assert config.output_name == "sentiment"


def test_without_steps_or_epochs_there_are_three_epochs() -> None:
    assert run_config(TrainingJobBuilder()).training.num_train_epochs == 3


def test_stage_3_gathers_the_weights_to_save_them() -> None:
    zero = run_config(TrainingJobBuilder().spec("deepspeed", {"zeroStage": 3})).deepspeed["zero_optimization"]
    assert zero == {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}


def test_all_stages_are_told_the_same_and_another_spec_is_told_otherwise() -> None:
    first = told(TrainingJobBuilder(), "prepare")
    assert first == told(TrainingJobBuilder(), "train")
    assert first != told(TrainingJobBuilder().spec("training.seed", 1), "prepare")


def test_a_run_config_that_no_annotation_has_room_for_is_refused() -> None:
    # The server counts bytes, and these are three each.
    long = {"comms_logger": {"prof_ops": ["é€" * 1000] * 60}}
    job = TrainingJobBuilder().spec("deepspeed", {"config": long}).build()
    plan = plan_job(job, Seen(), NOW, make_settings())
    assert plan.children == ()
    stalled = next(c for c in plan.status["conditions"] if c["type"] == "Stalled")
    assert stalled["reason"] == "SpecTooLarge"
    assert "takes 294 KiB, and pods can be told 192 KiB" in stalled["message"]


words = st.sampled_from(
    [
        "metadata",
        "labels",
        "annotations",
        "spec",
        "containers",
        "initContainers",
        "volumes",
        "volumeMounts",
        "name",
        "hostPath",
        "emptyDir",
        "secret",
        "persistentVolumeClaim",
        "claimName",
        "securityContext",
        "privileged",
        "hostNetwork",
        "hostPID",
        "serviceAccountName",
        "automountServiceAccountToken",
        "mountPath",
        "nodeSelector",
        "tolerations",
        "affinity",
        "priorityClassName",
        "runtimeClassName",
        "imagePullSecrets",
        "terminationGracePeriodSeconds",
        "trainer",
        "command",
        "restartPolicy",
        "modelyard.dev/x",
        "env",
        "ports",
        "hostPort",
        "subPath",
    ]
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5000),
    st.text(max_size=5),
    words,
    st.sampled_from(["/", "/data", "/modelyard/run", "/data/../etc", "//opt", "trainer", "v"]),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=4)),
    max_leaves=20,
)
volume = st.fixed_dictionaries(
    {"name": st.sampled_from(["v", "w", "modelyard-home"])},
    optional={
        "emptyDir": st.just({}),
        "secret": st.just({"secretName": "s"}),
        "hostPath": st.just({"path": "/"}),
        "x": trees,
    },
)
mount = st.fixed_dictionaries(
    {"name": st.sampled_from(["v", "w", "modelyard-home"]), "mountPath": leaves},
    optional={"readOnly": st.booleans()},
)
likely = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.dictionaries(
            words, st.dictionaries(words, st.one_of(words, trees), max_size=3), max_size=2
        ),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "volumes": st.lists(volume, max_size=3),
                "containers": st.lists(
                    st.fixed_dictionaries(
                        {},
                        optional={"name": leaves, "volumeMounts": st.lists(mount, max_size=3), "env": trees},
                    ),
                    max_size=2,
                ),
                "nodeSelector": trees,
                "tolerations": trees,
                "terminationGracePeriodSeconds": leaves,
                "securityContext": trees,
                "serviceAccountName": leaves,
                "hostNetwork": st.booleans(),
                "priorityClassName": leaves,
            },
        ),
    },
)


@settings(
    max_examples=400, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None
)
@given(template=st.one_of(likely, st.dictionaries(words, trees, max_size=3)))
def test_no_overlay_weakens_a_pod(template: dict[str, Any]) -> None:
    job = children(TrainingJobBuilder())["Job"]
    before = json.loads(json.dumps(job["spec"]["template"]))
    try:
        overlay.apply(template, job["spec"]["template"], "spec.trainer.podTemplate", "trainer")
    except Refused as refusal:
        assert refusal.problem.message.startswith("spec.trainer.podTemplate")
        assert job["spec"]["template"] == before, "a refused overlay changes nothing"
        return
    pod = job["spec"]["template"]["spec"]
    assert_restricted(pod)
    for field in ("securityContext", "restartPolicy", "automountServiceAccountToken", "subdomain"):
        assert pod[field] == before["spec"][field]
    for field in ("image", "command", "env", "securityContext", "resources"):
        assert pod["containers"][0][field] == before["spec"]["containers"][0][field]
    ours = before["metadata"]["labels"]
    assert {key: job["spec"]["template"]["metadata"]["labels"][key] for key in ours} == ours


@pytest.mark.parametrize("stage", ["prepare", "train"])
def test_a_profiles_labels_and_annotations_are_on_every_pod_but_never_in_place_of_ours(stage: str) -> None:
    labels = {"sidecar.istio.io/inject": "false", "modelyard.dev/stage": "other"}
    settings = make_settings(pod_labels=labels, pod_annotations={"linkerd.io/inject": "disabled"})
    meta = children(TrainingJobBuilder(), stage, settings)["Job"]["spec"]["template"]["metadata"]
    assert meta["labels"]["sidecar.istio.io/inject"] == "false"
    assert meta["labels"]["modelyard.dev/stage"] == stage
    assert meta["annotations"]["linkerd.io/inject"] == "disabled"


def test_a_jobs_own_bounds_for_preparation_come_before_the_profiles() -> None:
    builder = TrainingJobBuilder().spec("data.resources", {"limits": {"cpu": "1", "memory": "1Gi"}})
    (container,) = pod_of(builder, "prepare")["containers"]
    assert container["resources"] == {
        "limits": {"cpu": "1", "memory": "1Gi"},
        "requests": {"cpu": "1", "memory": "1Gi"},
    }
    (container,) = pod_of(TrainingJobBuilder(), "prepare")["containers"]
    assert container["resources"]["limits"]["memory"] == "4Gi"
