"""The servers of one revision: a Deployment that is never changed but for its size, and its Service."""

from __future__ import annotations

from typing import Any

from modelyard.api.profile import Profile
from modelyard.api.serving import Server
from modelyard.api.trainer import Resources
from modelyard.contract import codes
from modelyard.contract.server import ServerConfig
from modelyard.engine.plan import Child, Manifest
from modelyard.serving import names
from modelyard.serving.children import budgets
from modelyard.serving.children.site import (
    RUNTIME_MOUNT,
    RUNTIME_VOLUME,
    Site,
    build_template,
    mount_storage,
)
from modelyard.serving.engines.engine import Container
from modelyard.workloads import stages
from modelyard.workloads.pods import overlay, template

COMPONENT = "server"
POD_TEMPLATE = "spec.server.podTemplate"
_SPARE = 5  # seconds from the end of the draining to the end of the process
# Kubernetes' own HTTP port name, by which Services and probes find it.
_PORT = "http"


def build_deployment(
    site: Site,
    server: Server,
    revision: str,
    running: Container,
    config: ServerConfig,
    digest: str,
    concurrency: int | None,
    replicas: int,
) -> Child:
    """The Deployment of one revision, of that size. Raises Refused (podTemplate).

    `digest` is the model's; `concurrency` is told to the gateways, and kept here in case that the Service is lost.
    """
    resources = server.resources or site.profile.server_resources
    labels = {names.REVISION_LABEL: revision}
    pod = _build_pod(site, resources, config, running)
    made = build_template(
        site, COMPONENT, pod, config.model_dump_json(by_alias=True, exclude_none=True), labels
    )
    overlay.apply(server.pod_template, made, POD_TEMPLATE, stages.find(COMPONENT).container)
    annotations = {
        names.DIGEST_ANNOTATION: digest,
        names.VARIANT_ANNOTATION: config.variant,
        names.TASK_LABEL: config.task,
        names.SPEAKS_LABEL: running.speaks,
    }
    if concurrency is not None:
        annotations[names.CONCURRENCY_LABEL] = str(concurrency)
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(site, revision) | {"annotations": annotations},
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": select(site.name, revision)},
            "template": made,
        },
    }
    return Child(manifest, immutable=True, mutable={"spec.replicas": replicas})


def resize(deployment: Manifest, replicas: int) -> Child:
    """An existing Deployment, brought to that size."""
    metadata = {key: deployment["metadata"][key] for key in ("name", "namespace")}
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}
    return Child(manifest, immutable=True, mutable={"spec.replicas": replicas})


def build_budget(site: Site, revision: str) -> Child:
    """One for each revision: servers of another that aren't ready are no reason to keep these."""
    name = names.revision(site.name, revision)
    return budgets.build(site, name, COMPONENT, select(site.name, revision))


def build_service(
    site: Site, revision: str, weight: int, concurrency: int | None, task: str | None, speaks: str | None
) -> Child:
    """Headless: its EndpointSlices tell gateways of the servers, of the revision's weight (percent), how many requests
    each server takes at once, what the model does, and what the servers speak.
    """
    metadata = _metadata(site, revision)
    if task:
        metadata["labels"][names.TASK_LABEL] = task
    if speaks:
        metadata["labels"][names.SPEAKS_LABEL] = speaks
    metadata["labels"][names.WEIGHT_LABEL] = str(weight)
    if concurrency is not None:
        metadata["labels"][names.CONCURRENCY_LABEL] = str(concurrency)
    manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "clusterIP": "None",
            "selector": select(site.name, revision),
            "ports": [{"name": _PORT, "port": codes.SERVER_PORT, "targetPort": _PORT, "protocol": "TCP"}],
        },
    }
    return Child(manifest)


def select(deployment: str, revision: str) -> dict[str, str]:
    """Labels that the servers of a revision have, and nothing else has."""
    return {
        names.DEPLOYMENT_LABEL: deployment,
        names.COMPONENT_LABEL: COMPONENT,
        names.REVISION_LABEL: revision,
    }


def _metadata(site: Site, revision: str) -> Manifest:
    return {
        "name": names.revision(site.name, revision),
        "namespace": site.namespace,
        "labels": {
            **names.object_labels(site.name, COMPONENT, site.labels),
            names.REVISION_LABEL: revision,
        },
    }


def _build_pod(site: Site, resources: Resources, config: ServerConfig, running: Container) -> dict[str, Any]:
    volume, mount = mount_storage(site, read_only=True)
    threads = template.count_threads(resources, 1)
    defaults = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    container: dict[str, Any] = {
        "name": stages.find(COMPONENT).container,
        "image": running.image,
        "imagePullPolicy": site.profile.image_pull_policy,
        "env": template.build_env(defaults, site.profile, running.users_env, running.env),
        "ports": [{"name": _PORT, "containerPort": running.port, "protocol": "TCP"}],
        "resources": template.build_resources(resources),
        "securityContext": template.secure(),
        "terminationMessagePath": codes.TERMINATION_PATH,
        "terminationMessagePolicy": "File" if running.drains else "FallbackToLogsOnError",
        "readinessProbe": _probe(running.ready, period=1, failures=2),
        "volumeMounts": [mount, RUNTIME_MOUNT, *template.mount_scratch()],
    }
    if running.command:
        container["command"] = list(running.command)
    if running.args:
        container["args"] = list(running.args)
    if running.alive is not None:
        container["livenessProbe"] = _probe(running.alive, period=10, failures=6, timeout=10)
    if not running.drains:
        # It may stop listening as soon as it is told to end; gateways hear of that first.
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": codes.ANNOUNCE_SECONDS}}}
    pod = template.build(
        site.profile, container, [volume, RUNTIME_VOLUME, *template.build_scratch(resources)]
    )
    pod["restartPolicy"] = "Always"
    pod["terminationGracePeriodSeconds"] = codes.ANNOUNCE_SECONDS + int(config.drain_seconds) + _SPARE
    return pod


def find_drain(server: Server, profile: Profile) -> int:
    """Seconds for what runs when a server is told to end: what the users' pods leave for that, else the profile's."""
    pod = server.pod_template.get("spec") or {}
    asked = pod.get("terminationGracePeriodSeconds")
    if not isinstance(asked, int):
        return profile.termination_grace_period_seconds
    return max(1, asked - codes.ANNOUNCE_SECONDS - _SPARE)


def _probe(path: str, *, period: int, failures: int, timeout: int = 5) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": _PORT, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
        "successThreshold": 1,
    }
