"""The servers of one revision: a Deployment that is never changed but for its size, and its Service."""

from __future__ import annotations

from typing import Any

from modelyard.api.serving import Server
from modelyard.api.trainer import Resources
from modelyard.contract import codes
from modelyard.contract.server import ServerConfig
from modelyard.engine.plan import Child, Manifest
from modelyard.serving import names
from modelyard.serving.children.site import (
    CONFIG_FILE,
    CONFIG_FOLDER,
    RUNTIME_MOUNT,
    RUNTIME_VOLUME,
    Site,
    build_template,
    mount_storage,
)
from modelyard.workloads import stages
from modelyard.workloads.pods import overlay, template

COMPONENT = "server"
POD_TEMPLATE = "spec.server.podTemplate"
# Seconds for which a server that shall end goes on accepting: gateways hear of it first.
_LEAVING = 5
# Kubernetes' own HTTP port name, by which Services and probes find it.
_PORT = "http"


def build_deployment(
    site: Site,
    server: Server,
    revision: str,
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
    pod = _build_pod(site, resources, config)
    made = build_template(
        site, COMPONENT, pod, config.model_dump_json(by_alias=True, exclude_none=True), labels
    )
    overlay.apply(server.pod_template, made, POD_TEMPLATE, stages.find(COMPONENT).container)
    annotations = {names.DIGEST_ANNOTATION: digest, names.VARIANT_ANNOTATION: config.variant}
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


def build_service(site: Site, revision: str, weight: int, concurrency: int | None) -> Child:
    """Headless: its EndpointSlices tell gateways of the servers, of the revision's weight (percent), and how many
    requests each server takes at once.
    """
    metadata = _metadata(site, revision)
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
            "ports": [{"name": _PORT, "port": codes.SERVER_PORT, "protocol": "TCP"}],
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


def _build_pod(site: Site, resources: Resources, config: ServerConfig) -> dict[str, Any]:
    volume, mount = mount_storage(site, read_only=True)
    threads = template.count_threads(resources, 1)
    defaults = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    container = {
        "name": stages.find(COMPONENT).container,
        "image": site.profile.server_image,
        "imagePullPolicy": site.profile.image_pull_policy,
        "command": ["python3", "-m", "modelyard_server"],
        "env": template.build_env(
            defaults,
            site.profile,
            [],
            {
                codes.ENV_SERVER_CONFIG: f"{CONFIG_FOLDER}/{CONFIG_FILE}",
                codes.ENV_SERVER_PORT: codes.SERVER_PORT,
                codes.ENV_STORAGE: codes.STORAGE_PATH,
                codes.ENV_RUNTIME_DIR: codes.RUNTIME_PATH,
            },
        ),
        "ports": [{"name": _PORT, "containerPort": codes.SERVER_PORT, "protocol": "TCP"}],
        "resources": template.build_resources(resources),
        "securityContext": template.secure(),
        "terminationMessagePath": codes.TERMINATION_PATH,
        "terminationMessagePolicy": "File",
        "readinessProbe": _probe("/v2/health/ready", period=1, failures=2),
        # Only a process that answers nothing at all is restarted: a busy one is not ill.
        "livenessProbe": _probe("/v2/health/live", period=10, failures=6, timeout=10),
        "volumeMounts": [mount, RUNTIME_MOUNT, *template.mount_scratch()],
    }
    pod = template.build(
        site.profile, container, [volume, RUNTIME_VOLUME, *template.build_scratch(resources)]
    )
    pod["restartPolicy"] = "Always"
    pod["terminationGracePeriodSeconds"] = _LEAVING + int(config.drain_seconds) + 5
    return pod


def _probe(path: str, *, period: int, failures: int, timeout: int = 5) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": _PORT, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
        "successThreshold": 1,
    }
