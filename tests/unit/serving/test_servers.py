"""The servers of a revision, as they are asked for."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard.api.serving import Server
from modelyard.contract import codes
from modelyard.contract.server import ServerConfig
from modelyard.serving.children import servers
from modelyard.serving.children.site import CONFIG_ANNOTATION, CONFIG_VOLUME, Site
from modelyard.serving.engines import builtin
from modelyard.workloads.problem import Refused
from modelyard.workloads.storage import Place

from tests.builders import make_settings
from tests.podsecurity import assert_restricted

CONFIG = ServerConfig(name="sentiment", task="text-classification", folder="runs/x/model", drain_seconds=20)


def make_site(folder: str = "", **profile: Any) -> Site:
    settings = make_settings(**profile).profiles["default"]
    labels = {"modelyard.dev/team": "care", "mine": "stays-mine"}
    return Site("team", "sentiment", labels, settings, Place("sentiment-storage", folder))


def build(site: Site | None = None, **server: Any) -> dict[str, Any]:
    site = site or make_site()
    child = servers.build_deployment(
        site,
        Server.model_validate(server),
        "1a2b3c4d",
        builtin.build(site.profile),
        CONFIG,
        "sha256-d",
        16,
        3,
    )
    assert child.immutable and child.mutable == {"spec.replicas": 3}
    return child.manifest


def test_a_revisions_pods_are_restricted_and_read_their_storage_only() -> None:
    manifest = build(make_site("shared/models"))
    pod = manifest["spec"]["template"]["spec"]
    assert_restricted(pod)
    (mount,) = [m for m in pod["containers"][0]["volumeMounts"] if m["mountPath"] == codes.STORAGE_PATH]
    assert mount == {
        "name": "modelyard-storage", "mountPath": codes.STORAGE_PATH, "subPath": "shared/models", "readOnly": True
    }  # fmt: skip
    assert pod["automountServiceAccountToken"] is False
    assert pod["restartPolicy"] == "Always"


def test_a_server_finds_its_config_where_it_is_told_to_look() -> None:
    template = build()["spec"]["template"]
    told = ServerConfig.model_validate_json(template["metadata"]["annotations"][CONFIG_ANNOTATION])
    assert told == CONFIG
    container = template["spec"]["containers"][0]
    path = next(v["value"] for v in container["env"] if v["name"] == codes.ENV_SERVER_CONFIG)
    mount = next(m for m in container["volumeMounts"] if m["name"] == CONFIG_VOLUME)
    volume = next(v for v in template["spec"]["volumes"] if v["name"] == CONFIG_VOLUME)
    (item,) = volume["downwardAPI"]["items"]
    assert path == f"{mount['mountPath']}/{item['path']}"
    assert item["fieldRef"]["fieldPath"] == f"metadata.annotations['{CONFIG_ANNOTATION}']"


def test_services_and_deployments_select_the_pods_of_their_revision_alone() -> None:
    manifest, service = (
        build(),
        servers.build_service(make_site(), "1a2b3c4d", 100, 16, "embeddings", "oip").manifest,
    )
    labels = manifest["spec"]["template"]["metadata"]["labels"]
    selector = manifest["spec"]["selector"]["matchLabels"]
    assert selector == service["spec"]["selector"] == servers.select("sentiment", "1a2b3c4d")
    assert selector.items() <= labels.items()
    assert not servers.select("sentiment", "other").items() <= labels.items()
    assert labels["modelyard.dev/team"] == "care" and "mine" not in labels
    assert (service["metadata"]["name"], manifest["metadata"]["name"]) == ("sentiment-1a2b3c4d",) * 2
    assert service["metadata"]["labels"]["modelyard.dev/weight"] == "100"
    assert service["metadata"]["labels"]["modelyard.dev/concurrency"] == "16"
    assert service["metadata"]["labels"]["modelyard.dev/task"] == "embeddings"
    assert service["metadata"]["labels"]["modelyard.dev/speaks"] == "oip"
    # What the next operator knows of a revision that it did not make.
    told = {
        "modelyard.dev/model-digest": "sha256-d",
        "modelyard.dev/variant": "none",
        "modelyard.dev/concurrency": "16",
        "modelyard.dev/task": "text-classification",
        "modelyard.dev/speaks": "builtin",
    }
    assert manifest["metadata"]["annotations"] == told
    assert service["spec"]["clusterIP"] == "None"


def test_a_weight_is_a_label_of_the_service_and_of_nothing_else() -> None:
    light, heavy = (
        servers.build_service(make_site(), "a", weight, None, None, None).manifest for weight in (0, 100)
    )
    heavy["metadata"]["labels"]["modelyard.dev/weight"] = "0"
    assert light == heavy
    assert "modelyard.dev/weight" not in str(build())


def test_a_pod_has_the_time_that_draining_takes() -> None:
    assert build()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 30


def test_threads_are_as_many_as_the_limit_of_processors() -> None:
    container = build(resources={"limits": {"cpu": "3500m", "memory": "2Gi"}})["spec"]["template"]["spec"]
    env = {v["name"]: v.get("value") for v in container["containers"][0]["env"]}
    assert env["OMP_NUM_THREADS"] == "3"
    assert container["containers"][0]["resources"]["limits"]["cpu"] == "3500m"


def test_an_overlay_is_laid_over_the_pods_and_can_not_weaken_them() -> None:
    spec = {"tolerations": [{"key": "gpu", "operator": "Exists"}]}
    pod = build(podTemplate={"spec": spec})["spec"]["template"]["spec"]
    assert pod["tolerations"] == spec["tolerations"]
    with pytest.raises(Refused, match=r"spec\.server\.podTemplate\.spec\.hostNetwork can't be set"):
        build(podTemplate={"spec": {"hostNetwork": True}})
