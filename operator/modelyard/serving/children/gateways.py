"""The gateways of a deployment: the pods through which all requests go, what they may see, and their Service."""

from __future__ import annotations

import math
from typing import Any

from modelyard.api.profile import RoleName
from modelyard.api.serving import Gateway, Traffic
from modelyard.contract import codes
from modelyard.contract.gateway import GatewayConfig
from modelyard.engine.compare import digest
from modelyard.engine.plan import Child, Manifest
from modelyard.serving import names
from modelyard.serving.children import budgets
from modelyard.serving.children.site import CONFIG_FILE, CONFIG_FOLDER, Site, build_template
from modelyard.workloads import stages
from modelyard.workloads.pods import template

COMPONENT = "gateway"
PORT = 80
_HTTP, _ADMIN = "http", "admin"
_KEYS_VOLUME = "modelyard-keys"


def build(
    site: Site, gateway: Gateway, traffic: Traffic, config: GatewayConfig, role: RoleName
) -> list[Child]:
    """All objects of the gateways, in the order in which they need each other."""
    name, labels = names.gateway(site.name), names.object_labels(site.name, COMPONENT, site.labels)
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "labels": labels},
        "automountServiceAccountToken": False,  # its pods say that they want one
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        # What a binding gives can't be changed: another role has another binding.
        "metadata": {"name": f"{name}-{digest([role.kind, role.name])[:8]}", "labels": labels},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role.kind, "name": role.name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": site.namespace}],
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": names.service(site.name), "labels": labels},
        "spec": {
            "selector": _select(site.name),
            "ports": [{"name": _HTTP, "port": PORT, "targetPort": _HTTP, "protocol": "TCP"}],
        },
    }
    budget = budgets.build(site, name, COMPONENT, _select(site.name))
    return [
        Child(account),
        Child(binding),
        Child(service),
        budget,
        _build_deployment(site, gateway, traffic, config),
    ]


def _build_deployment(site: Site, gateway: Gateway, traffic: Traffic, config: GatewayConfig) -> Child:
    pod = _build_pod(site, gateway, traffic, config)
    made = build_template(site, COMPONENT, pod, config.model_dump_json(by_alias=True, exclude_none=True), {})
    manifest: Manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": names.gateway(site.name),
            "labels": names.object_labels(site.name, COMPONENT, site.labels),
        },
        "spec": {
            "replicas": gateway.replicas,
            "revisionHistoryLimit": 1,
            # None goes before another is ready.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": _select(site.name)},
            "template": made,
        },
    }
    return Child(manifest)


def _select(deployment: str) -> dict[str, str]:
    return {names.DEPLOYMENT_LABEL: deployment, names.COMPONENT_LABEL: COMPONENT}


def _build_pod(site: Site, gateway: Gateway, traffic: Traffic, config: GatewayConfig) -> dict[str, Any]:
    resources = gateway.resources or site.profile.gateway_resources
    container: dict[str, Any] = {
        "name": stages.find(COMPONENT).container,
        "image": site.profile.gateway_image,
        "imagePullPolicy": site.profile.image_pull_policy,
        "command": ["python3", "-m", "modelyard_gateway"],
        "env": template.build_env(
            {}, site.profile, [], {codes.ENV_GATEWAY_CONFIG: f"{CONFIG_FOLDER}/{CONFIG_FILE}"}
        ),
        "ports": [
            {"name": _HTTP, "containerPort": codes.GATEWAY_PORT, "protocol": "TCP"},
            {"name": _ADMIN, "containerPort": codes.GATEWAY_ADMIN_PORT, "protocol": "TCP"},
        ],
        "resources": template.build_resources(resources),
        "securityContext": template.secure(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "readinessProbe": _probe("/readyz", period=1, failures=2),
        "livenessProbe": _probe("/healthz", period=10, failures=6),
        "volumeMounts": template.mount_scratch(),
    }
    volumes = template.build_scratch(resources)
    if traffic.api_keys is not None:
        secret = traffic.api_keys.secret_ref.name
        volumes.append({"name": _KEYS_VOLUME, "secret": {"secretName": secret}})
        container["volumeMounts"].append(
            {"name": _KEYS_VOLUME, "mountPath": codes.KEYS_PATH, "readOnly": True}
        )
    pod = template.build(site.profile, container, volumes)
    return pod | {
        "restartPolicy": "Always",
        "serviceAccountName": names.gateway(site.name),
        "automountServiceAccountToken": True,
        "terminationGracePeriodSeconds": codes.ANNOUNCE_SECONDS + math.ceil(config.drain_seconds) + 5,
        # Two on one node would end together.
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": _select(site.name)},
            }
        ],
    }


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": _ADMIN, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
        "successThreshold": 1,
    }
