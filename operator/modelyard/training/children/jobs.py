"""The Jobs of the three stages, and the Service of the train pods."""

from __future__ import annotations

from typing import Any

from modelyard.api.trainingjob import TrainingJobSpec
from modelyard.contract import codes, layout
from modelyard.engine.plan import Child, Manifest
from modelyard.training import names
from modelyard.training.children import pods
from modelyard.training.children.pods import Site
from modelyard.training.children.runconfig import pod_resources, prepare_resources
from modelyard.training.spec import batch
from modelyard.workloads import stages
from modelyard.workloads.labels import STAGE_LABEL
from modelyard.workloads.pods import overlay, sources, template

PYTHON = "python3"
# An emptyDir in users' own images, since their root file system is read-only.
CARRIED_AGENT = "/modelyard/agent/agent.pyz"
COLLECT_RETRIES = 2


def build_prepare(site: Site, spec: TrainingJobSpec, labels: dict[str, str], index: int) -> Child:
    """The Job that fetches the model and prepares the data.

    An image of the user's that runs the built-in trainer prepares as well: what packages it has is tried out here.
    """
    profile = site.profile
    pod = pods.build_pod(
        site,
        "prepare",
        (spec.builtin and spec.trainer.image) or profile.trainer_image,
        [PYTHON, codes.AGENT_PATH, "prepare"],
        prepare_resources(spec, profile),
        {codes.ENV_ATTEMPT: index},
        [],
    )
    uris = [source.uri for source in spec.data.sources] if spec.data else []
    if spec.model and spec.model.uri:
        uris.append(spec.model.uri)
    sources.mount(pod, uris, site.place.claim)
    return Child(_build_job(site, "prepare", index, labels, pod, {"backoffLimit": 0}), immutable=True)


def build_collect(site: Site, spec: TrainingJobSpec, labels: dict[str, str], index: int) -> Child:
    """The Job that reads the result of an attempt back from storage, where its pods are gone."""
    profile = site.profile
    pod = pods.build_pod(
        site,
        "collect",
        profile.trainer_image,
        [PYTHON, codes.AGENT_PATH, "collect"],
        prepare_resources(spec, profile),
        {codes.ENV_ATTEMPT: index},
        [],
    )
    return Child(
        _build_job(site, "collect", index, labels, pod, {"backoffLimit": COLLECT_RETRIES}), immutable=True
    )


def build_train(
    site: Site,
    spec: TrainingJobSpec,
    labels: dict[str, str],
    index: int,
    dataset: str | None,
    model: str | None,
    reached: int = 0,
) -> Child:
    """The Indexed Job of one attempt: one pod a node. `dataset` and `model` are digests of what was
    prepared; `reached` is the highest step that earlier attempts did.
    """
    trainer = spec.trainer
    resources = pod_resources(spec, site.profile)
    name = names.stage_job(site.job, "train", index)
    env: dict[str, Any] = {
        codes.ENV_ATTEMPT: index,
        codes.ENV_NUM_NODES: trainer.num_nodes,
        codes.ENV_NUM_PROC: batch.count_processes(trainer, resources),
        codes.ENV_MASTER_ADDR: f"{name}-0.{names.train_service(site.job)}.{site.namespace}.svc",
        codes.ENV_RDZV_PORT: codes.RDZV_PORT,
        codes.ENV_MAX_PROCESS_RESTARTS: site.profile.max_process_restarts,
    }
    if reached:
        env[codes.ENV_REACHED_STEP] = reached
    if dataset:
        env[codes.ENV_DATASET] = layout.dataset_dir(dataset)
    if model:
        env[codes.ENV_MODEL] = layout.hub_dir(model)
    command = [PYTHON, codes.AGENT_PATH, "train"]
    if trainer.command:
        command = [PYTHON, CARRIED_AGENT, "train", "--", *trainer.command]
    image = trainer.image or site.profile.trainer_image
    pod = pods.build_pod(site, "train", image, command, resources, env, trainer.env)
    pod["subdomain"] = names.train_service(site.job)
    pod["containers"][0]["ports"] = [{"name": "agent", "containerPort": codes.AGENT_PORT}]
    if trainer.command:
        _carry_agent(pod, site)
    job = _build_job(
        site, "train", index, labels, pod,
        {
            "backoffLimit": 0, "completionMode": "Indexed", "completions": trainer.num_nodes,
            "parallelism": trainer.num_nodes,
        },
    )  # fmt: skip
    overlay.apply(
        trainer.pod_template, job["spec"]["template"], names.POD_TEMPLATE, stages.find("train").container
    )
    pods.set_grace(job["spec"]["template"]["spec"])
    return Child(job, immutable=True)


def build_service(job: str, namespace: str, labels: dict[str, str]) -> Child:
    """Headless; gives addresses of pods that aren't ready yet, since rendezvous is what makes them ready."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": names.train_service(job),
            "namespace": namespace,
            "labels": names.object_labels(job, labels),
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {names.JOB_LABEL: job, STAGE_LABEL: "train"},
            "ports": [
                {"name": "agent", "port": codes.AGENT_PORT, "protocol": "TCP"},
                {"name": "rendezvous", "port": codes.RDZV_PORT, "protocol": "TCP"},
            ],
        },
    }
    return Child(manifest)


def stop_job(job: Manifest) -> Child:
    """An existing Job, to be suspended: its pods get SIGTERM and their grace period."""
    metadata = {key: job["metadata"][key] for key in ("name", "namespace")}
    manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}
    return Child(manifest, immutable=True, mutable={"spec.suspend": True})


def _build_job(
    site: Site, stage: str, index: int, labels: dict[str, str], pod: dict[str, Any], spec: dict[str, Any]
) -> Manifest:
    common = {
        **names.object_labels(site.job, labels),
        STAGE_LABEL: stage,
        names.ATTEMPT_LABEL: str(index),
    }
    # Only the Job: a queue label on pods would have them queued a second time, one by one.
    queue = {key: value for key, value in labels.items() if key == names.QUEUE_LABEL}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.stage_job(site.job, stage, index),
            "namespace": site.namespace,
            "labels": {**common, **queue},
        },
        "spec": {
            **spec,
            # Counts a pod as failed only once it has really stopped.
            "podReplacementPolicy": "Failed",
            "template": {
                "metadata": {
                    "labels": {**site.profile.pod_labels, **common},
                    "annotations": {
                        **site.profile.pod_annotations,
                        codes.RUN_CONFIG_ANNOTATION: site.run_config,
                        "kubectl.kubernetes.io/default-container": pod["containers"][0]["name"],
                    },
                },
                "spec": pod,
            },
        },
    }


def _carry_agent(pod: dict[str, Any], site: Site) -> None:
    mount = {"name": "modelyard-agent", "mountPath": CARRIED_AGENT.rsplit("/", 1)[0]}
    copy = f"import shutil; shutil.copyfile({codes.AGENT_PATH!r}, {CARRIED_AGENT!r})"
    amounts = {"cpu": "500m", "memory": "128Mi"}
    pod["volumes"].append({"name": "modelyard-agent", "emptyDir": {}})
    pod["initContainers"] = [
        {
            "name": stages.AGENT_CONTAINER,
            "image": site.profile.agent_image,
            "imagePullPolicy": site.profile.image_pull_policy,
            "command": [PYTHON, "-c", copy],
            "resources": {"limits": amounts, "requests": dict(amounts)},
            "securityContext": template.secure(),
            "volumeMounts": [mount],
        }
    ]
    pod["containers"][0]["volumeMounts"].append({**mount, "readOnly": True})
