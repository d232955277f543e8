"""The Job of one try at a build."""

from __future__ import annotations

from modelyard.api.serving import Server
from modelyard.api.trainer import Resources
from modelyard.contract import codes
from modelyard.contract.build import BuildConfig
from modelyard.engine.compare import digest
from modelyard.engine.plan import Child, Manifest
from modelyard.serving import names
from modelyard.serving.children import servers
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
from modelyard.workloads.pods import overlay, sources, template

COMPONENT = "build"
# A build whose pod is killed for its memory while it makes a variant leaves that one out in the third.
_TRIES = 3
# Seconds: of a pod that hangs. One that is slow has left what it downloaded and made to the next one.
LONGEST = 3 * 3600
_POLICY = {
    "rules": [
        # What the user has to change is the same in the next pod.
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": "build", "operator": "In", "values": [codes.EXIT_USER_ERROR]},
        },
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
}


def build_job(site: Site, server: Server, build_id: str, config: BuildConfig, attempt: int) -> Child:
    """A pod of the server's size, since it measures what servers of that size do. Raises Refused (podTemplate)."""
    resources = server.resources or site.profile.server_resources
    if not config.measure:
        resources = _leave_devices_out(resources)
    volume, mount = mount_storage(site, read_only=False)
    threads = template.count_threads(resources, 1)
    container = {
        "name": stages.find(COMPONENT).container,
        "image": site.profile.server_image,
        "imagePullPolicy": site.profile.image_pull_policy,
        "command": ["python3", "-m", "modelyard_build"],
        "env": template.build_env(
            {"OMP_NUM_THREADS": str(threads)} if threads else {},
            site.profile,
            [],
            {
                codes.ENV_BUILD_CONFIG: f"{CONFIG_FOLDER}/{CONFIG_FILE}",
                codes.ENV_STORAGE: codes.STORAGE_PATH,
                codes.ENV_RUNTIME_DIR: codes.RUNTIME_PATH,
            },
        ),
        "resources": template.build_resources(resources),
        "securityContext": template.secure(),
        "terminationMessagePath": codes.TERMINATION_PATH,
        "terminationMessagePolicy": "File",
        "volumeMounts": [mount, RUNTIME_MOUNT, *template.mount_scratch()],
    }
    pod = template.build(
        site.profile, container, [volume, RUNTIME_VOLUME, *template.build_scratch(resources)]
    )
    pod["activeDeadlineSeconds"] = LONGEST
    sources.mount(pod, [uri for uri in (config.uri, config.dataset) if uri], site.place.claim)
    labels = {names.BUILD_LABEL: build_id}
    made = build_template(
        site, COMPONENT, pod, config.model_dump_json(by_alias=True, exclude_none=True), labels
    )
    # Users know the container by the name that it has in servers.
    overlay.apply(server.pod_template, made, servers.POD_TEMPLATE, stages.find(servers.COMPONENT).container)
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.build_job(site.name, build_id, attempt),
            "namespace": site.namespace,
            "labels": {**made["metadata"]["labels"]},
            "annotations": {names.TEMPLATE_ANNOTATION: digest(made)},
        },
        "spec": {
            "backoffLimit": _TRIES - 1,
            "podFailurePolicy": _POLICY,
            "podReplacementPolicy": "Failed",
            "template": made,
        },
    }
    return Child(manifest, immutable=True)


def _leave_devices_out(resources: Resources) -> Resources:
    """To read files takes none: the server that serves meanwhile may have the only one."""
    # Kubernetes' own resources have no domain, devices always have one.
    limits = {name: amount for name, amount in resources.limits.items() if "/" not in name}
    requests = {name: amount for name, amount in resources.requests.items() if "/" not in name}
    return Resources(limits=limits, requests=requests)


def read_template(job: Manifest) -> str | None:
    """Which pod template a Job was made with: all that users and the platform team say of the pod is in it."""
    told = (job["metadata"].get("annotations") or {}).get(names.TEMPLATE_ANNOTATION)
    return None if told is None else str(told)
