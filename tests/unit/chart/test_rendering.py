"""The chart's objects over a matrix of values."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from typing import Any

import pytest
import yaml
from modelyard.__main__ import build_parser
from modelyard.api.profile import Settings
from modelyard.training.names import JOB_LABEL
from modelyard.workloads.labels import INHERITED_LABELS

from tests.podsecurity import find_violations
from tests.unit.chart.rendering import CHART, ROOT, ChartError, of_kind, only, render, run_helm
from tests.unit.serving.world import World, deployment, trained_job

GOLDEN = ROOT / "tests" / "unit" / "training" / "golden"
DIGEST = "sha256:" + "a" * 64
MATRIX: dict[str, dict[str, Any]] = {
    "defaults": {},
    "two replicas": {"replicas": 2, "podDisruptionBudget": {"maxUnavailable": 1}},
    "some namespaces": {"watchNamespaces": ["team-a", "team-b"]},
    "everything optional": {
        "networkPolicy": {"enabled": True, "metricsFrom": [{"podSelector": {"matchLabels": {"a": "b"}}}]},
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "5s"},
            "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        },
        "dashboards": {
            "enabled": True, "namespace": "monitoring", "label": "dashboards.example/grafana", "labelValue": "yes",
            "annotations": {"grafana_folder": "Modelyard"},
        },
        "commonLabels": {"cost-center": "ml"}, "podLabels": {"a": "b"}, "podAnnotations": {"c": "d"},
        "imagePullSecrets": [{"name": "registry"}], "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}], "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"},
        ],
        "serviceAccount": {"annotations": {"e": "f"}},
    },
    "own account, no roles": {
        "serviceAccount": {"create": False, "name": "mine"}, "rbac": {"create": False, "aggregate": False},
    },
    "no definitions": {"crds": {"install": False}},
    "images by digest": {
        "image": {"registry": "registry.example:5000", "repository": "ml/operator", "digest": DIGEST},
        "trainerImage": {"repository": "localhost/trainer", "tag": "1", "digest": DIGEST},
    },
    "several profiles": {
        "profiles": {
            "default": {"storage": {"uri": "pvc://shared/runs"}},
            "gpu": {
                "trainerImage": "registry.example/trainer:cuda", "imagePullPolicy": "Always",
                "imagePullSecrets": ["registry"], "nodeSelector": {"accelerator": "a100"},
                "resources": {"limits": {"nvidia.com/gpu": 8, "cpu": "64", "memory": "400Gi"}},
                "prepareResources": {"limits": {"cpu": 4, "memory": "16Gi"}, "requests": {"cpu": "500m"}},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                "priorityClassName": "training",
                "podLabels": {"sidecar.istio.io/inject": "false"},
                "podAnnotations": {"linkerd.io/inject": "disabled"},
                "env": [
                    {"name": "HF_ENDPOINT", "value": "https://hub.example"},
                    {"name": "HF_TOKEN", "secretKeyRef": {"name": "hub", "key": "token"}},
                ],
                "storage": {"size": "1Ti", "storageClassName": "nfs", "accessModes": ["ReadWriteMany"]},
                "terminationGracePeriodSeconds": 600, "maxProcessRestarts": 0,
                "prices": {"currency": "EUR", "perHour": {"cpu": 0.03, "nvidia.com/gpu": 2}},
            },
        },
    },
}  # fmt: skip
cases = pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())


def _settings(manifests: list[dict[str, Any]]) -> Settings:
    (found,) = [m for m in of_kind(manifests, "ConfigMap") if m["metadata"]["name"] == "modelyard-profiles"]
    return Settings.model_validate(yaml.safe_load(found["data"]["profiles.yaml"]))


@cases
def test_helm_lint_finds_nothing_to_complain_about(values: dict[str, Any]) -> None:
    assert "0 chart(s) failed" in run_helm("lint", "--strict", str(CHART), values=values)


@cases
def test_the_operators_pod_may_run_where_the_restricted_level_is_enforced(values: dict[str, Any]) -> None:
    spec = only(render(values), "Deployment")["spec"]["template"]["spec"]
    assert find_violations(spec) == []
    (container,) = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert set(container["resources"]) == {"limits", "requests"}
    assert {"cpu", "memory"} <= set(container["resources"]["limits"])


@cases
def test_the_profiles_are_what_the_operator_reads(values: dict[str, Any]) -> None:
    settings = _settings(render(values))
    assert set(settings.profiles) == set(values.get("profiles", {"default": {}}))


@cases
def test_every_object_is_labelled_and_namespaced_objects_say_where_they_are(values: dict[str, Any]) -> None:
    for manifest in render(values):
        if manifest["kind"] == "CustomResourceDefinition":
            continue
        assert manifest["metadata"]["labels"]["app.kubernetes.io/name"] == "modelyard", manifest["kind"]
        assert manifest["kind"].startswith("Cluster") != ("namespace" in manifest["metadata"]), manifest[
            "kind"
        ]


def test_selectors_find_the_operators_pod() -> None:
    manifests = render(MATRIX["everything optional"] | {"replicas": 2})
    labels = only(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        only(manifests, "Deployment")["spec"]["selector"]["matchLabels"],
        only(manifests, "Service")["spec"]["selector"],
        only(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    monitor = only(manifests, "ServiceMonitor")["spec"]
    found = monitor["selector"]["matchLabels"].items()
    assert found <= only(manifests, "Service")["metadata"]["labels"].items()
    # Else Prometheus takes the operator's namespace for the jobs'.
    assert monitor["endpoints"][0]["honorLabels"] is True


def test_prices_may_be_given_on_the_command_line_and_a_misspelt_resource_is_refused() -> None:
    def prices(**per_hour: Any) -> dict[str, Any]:
        return {"profiles": {"default": {"prices": {"currency": "EUR", "perHour": per_hour}}}}

    # helm --set a=0.03 makes a string of it.
    found = _settings(render(prices(cpu="0.03", memory=1))).profiles["default"].prices
    assert found is not None
    assert found.per_hour == {"cpu": 0.03, "memory": 1.0}
    for wrong in ({"gpu": 2.5}, {"cpu": "free"}, {"cpu": -1}):
        with pytest.raises(ChartError, match="perHour"):
            render(prices(**wrong))


def test_the_alerts_are_those_of_the_file_to_the_letter() -> None:
    rule = only(render(MATRIX["everything optional"]), "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert rule["spec"] == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())


@pytest.mark.parametrize("watched", [[], ["team-a", "team-b"]], ids=["all namespaces", "some"])
def test_the_pod_monitor_selects_training_pods_by_what_the_operator_gives_them(watched: list[str]) -> None:
    values = {**MATRIX["everything optional"], "watchNamespaces": watched}
    monitors = {m["metadata"]["name"]: m for m in of_kind(render(values), "PodMonitor")}
    monitor = monitors["modelyard"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    spec = monitor["spec"]
    assert spec["namespaceSelector"] == ({"matchNames": watched} if watched else {"any": True})
    job = next(yaml.safe_load_all((GOLDEN / "train.yaml").read_text()))
    pod = job["spec"]["template"]
    assert spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (endpoint,) = spec["podMetricsEndpoints"]
    labels = (JOB_LABEL, *INHERITED_LABELS)
    assert {tuple(rule["sourceLabels"]): rule["targetLabel"] for rule in endpoint["relabelings"]} == {
        (f"__meta_kubernetes_pod_label_{re.sub('[./]', '_', label)}",): label.partition("/")[2]
        for label in labels
    }
    assert endpoint["port"] in [port["name"] for port in pod["spec"]["containers"][0]["ports"]]
    assert endpoint["interval"] == "5s"


def test_the_other_pod_monitor_selects_gateways_and_servers_by_what_the_operator_gives_them() -> None:
    monitors = {
        m["metadata"]["name"]: m for m in of_kind(render(MATRIX["everything optional"]), "PodMonitor")
    }
    spec = monitors["modelyard-gateways"]["spec"]
    (among,) = spec["selector"]["matchExpressions"]
    world = World()
    world.create(trained_job(), deployment())
    pods = [o["spec"]["template"] for k, o in world.cluster.objects.items() if k.kind == "Deployment"]
    assert {pod["metadata"]["labels"][among["key"]] for pod in pods} == set(among["values"])
    for pod in pods:
        labels = pod["metadata"]["labels"]
        (endpoint,) = (
            e
            for e in spec["podMetricsEndpoints"]
            if e["relabelings"][0]["regex"] == labels["modelyard.dev/stage"]
        )
        assert endpoint["port"] in [port["name"] for port in pod["spec"]["containers"][0]["ports"]]
        named = {rule["targetLabel"] for rule in endpoint["relabelings"] if "targetLabel" in rule}
        assert named == {"modeldeployment", "revision", "project", "team"}
        assert "modelyard.dev/modeldeployment" in labels


def test_dashboards_are_those_of_the_files_to_the_letter_where_the_sidecar_looks_for_them() -> None:
    found = [
        m
        for m in of_kind(render(MATRIX["everything optional"]), "ConfigMap")
        if "dashboard" in m["metadata"]["name"]
    ]
    names = ["deployments", "fleet", "job", "operator"]
    assert [m["metadata"]["name"] for m in found] == [f"modelyard-dashboard-{name}" for name in names]
    for name, manifest in zip(names, found, strict=True):
        assert manifest["metadata"]["namespace"] == "monitoring"
        assert manifest["metadata"]["labels"]["dashboards.example/grafana"] == "yes"
        assert manifest["metadata"]["annotations"] == {"grafana_folder": "Modelyard"}
        assert manifest["data"] == {
            f"modelyard-{name}.json": (CHART / "dashboards" / f"{name}.json").read_text()
        }
    (plain, *_) = of_kind(render({"dashboards": {"enabled": True}}), "ConfigMap")
    assert plain["metadata"]["namespace"] == "modelyard-system"
    assert plain["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert "annotations" not in plain["metadata"]


def test_dashboards_are_small_enough_for_a_client_side_apply() -> None:
    manifests = of_kind(render({"dashboards": {"enabled": True}}), "ConfigMap")
    # kubectl and Argo CD keep the last applied object in an annotation of 256 KiB at most.
    assert max(len(json.dumps(manifest)) for manifest in manifests) < 262_144 / 2


def test_a_profile_gets_the_charts_images_unless_it_names_its_own() -> None:
    profiles = _settings(
        render(MATRIX["several profiles"] | {"image": {"repository": "r/op", "tag": "7"}})
    ).profiles
    assert (profiles["default"].trainer_image, profiles["default"].agent_image) == (
        "modelyard/trainer:0.1.0",
        "r/op:7",
    )
    assert (profiles["gpu"].trainer_image, profiles["gpu"].agent_image) == (
        "registry.example/trainer:cuda",
        "r/op:7",
    )
    assert (profiles["default"].image_pull_policy, profiles["gpu"].image_pull_policy) == (
        "IfNotPresent",
        "Always",
    )
    assert profiles["gpu"].resources.limits["nvidia.com/gpu"] == 8
    assert profiles["gpu"].max_process_restarts == 0


def test_preparation_asks_for_less_than_it_may_use_unless_the_profile_says_otherwise() -> None:
    profiles = _settings(render(MATRIX["several profiles"])).profiles
    assert profiles["default"].prepare_resources.limits["cpu"] == "2"
    assert profiles["default"].prepare_resources.requests["cpu"] == "500m"
    assert profiles["gpu"].prepare_resources.requests == {"cpu": "500m"}
    assert profiles["gpu"].prepare_resources.limits == {"cpu": 4, "memory": "16Gi"}


def test_images_are_named_by_registry_tag_and_digest() -> None:
    manifests = render(MATRIX["images by digest"])
    (container,) = only(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example:5000/ml/operator@{DIGEST}"
    assert _settings(manifests).profiles["default"].trainer_image == f"localhost/trainer:1@{DIGEST}"


def test_what_the_operator_reads_at_its_start_starts_the_next_one_and_nothing_else_does() -> None:
    def pod(values: dict[str, Any]) -> Any:
        return only(render(values), "Deployment")["spec"]["template"]

    changed = pod({"profiles": {"default": {"maxProcessRestarts": 1}}})
    assert changed["metadata"]["annotations"] != pod({})["metadata"]["annotations"]
    assert changed["spec"] == pod({})["spec"]
    assert pod({"profiles": {"default": {"maxProcessRestarts": 1}}}) == changed
    assert pod({"metrics": {"serviceMonitor": {"enabled": True}}}) == pod({})
    assert pod({"logLevel": "debug"}) != pod({})
    assert pod({"podAnnotations": {"c": "d"}})["metadata"]["annotations"].items() >= {("c", "d")}


def test_the_operator_understands_what_it_is_told() -> None:
    def parse(values: dict[str, Any]) -> Namespace:
        (container,) = only(render(values), "Deployment")["spec"]["template"]["spec"]["containers"]
        assert container["command"] == ["python", "-m", "modelyard"]
        (profiles,) = [m for m in container["volumeMounts"] if m["name"] == "profiles"]
        options = build_parser().parse_args(container["args"])
        assert str(options.profiles) == f"{profiles['mountPath']}/profiles.yaml"
        (port,) = container["ports"]
        assert options.metrics_port == port["containerPort"]
        return options

    assert parse({}).command == "run"
    assert not parse({}).namespaces
    assert parse({"watchNamespaces": ["a", "b"]}).namespaces == ["a", "b"]
    assert parse({"logLevel": "debug"}).log_level == "debug"


def test_a_disruption_budget_exists_only_where_it_can_not_block_a_drain() -> None:
    assert of_kind(render({"replicas": 1}), "PodDisruptionBudget") == []
    assert only(render({"replicas": 2}), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_optional_objects_are_absent_by_default() -> None:
    kinds = {manifest["kind"] for manifest in render()}
    optional = {"NetworkPolicy", "ServiceMonitor", "PodMonitor", "PrometheusRule", "PodDisruptionBudget"}
    assert not kinds & optional
    only(render(), "ConfigMap")  # the profiles, no dashboards


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replica": 2}, "'replica' not allowed"),
        ({"replicas": 3}, "maximum"),
        ({"image": {"tagg": "1"}}, "'tagg' not allowed"),
        ({"image": {"digest": "abc"}}, "pattern"),
        ({"crds": {"instal": False}}, "'instal' not allowed"),
        ({"profiles": {"default": {"trainerImages": "x"}}}, "'trainerImages' not allowed"),
        ({"profiles": {"default": {"storage": {"uri": "s3://b"}}}}, "pattern"),
        ({"profiles": {"GPU": {}}}, "GPU"),
        ({"profiles": {"default": None}}, "minProperties"),
        ({"resources": {"limits": {"memory": 4294967296}}}, "memory"),
        ({"metrics": {"serviceMonitor": {"intervall": "5s"}}}, "'intervall' not allowed"),
        ({"metrics": {"podMonitor": {"interval": "5"}}}, "pattern"),
        ({"dashboards": {"folder": "x"}}, "'folder' not allowed"),
        ({"dashboards": {"labelValue": "a b"}}, "pattern"),
        ({"watchNamespaces": ["a", "a"]}, "watchNamespaces"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ChartError, match=complaint):
        render(values)


def test_the_schema_knows_every_field_of_a_profile() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    known = schema["$defs"]["profile"]["properties"]
    fields = Settings.model_json_schema(by_alias=True)["$defs"]
    assert set(known) == set(fields["Profile"]["properties"])
    assert set(known["storage"]["properties"]) == set(fields["ProfileStorage"]["properties"])


def test_every_object_of_the_schema_is_closed() -> None:
    def open_objects(node: Any, path: str) -> list[str]:
        if isinstance(node, list):
            return [found for item in node for found in open_objects(item, path)]
        if not isinstance(node, dict):
            return []
        loose = ["properties" in node and node.get("additionalProperties") is not False and path]
        return [p for p in loose if p] + [f for k, v in node.items() for f in open_objects(v, f"{path}.{k}")]

    assert open_objects(yaml.safe_load((CHART / "values.schema.json").read_text()), "values") == []


@pytest.mark.parametrize("key", ["image", "trainerImage", "serverImage", "gatewayImage"])
def test_an_upgrade_that_lacks_an_image_says_what_to_do(key: str) -> None:
    """As `--reuse-values` does with what is new in the chart."""
    with pytest.raises(
        ChartError, match=rf"no value {key}\.repository: upgrade with --reset-then-reuse-values"
    ):
        render({key: None})
