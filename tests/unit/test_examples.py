"""Every manifest under examples/ is valid, and the documents that name them are right."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from modelyard.api.base import API_VERSION
from modelyard.api.profile import Profile, Settings
from modelyard.api.trainingjob import TrainingJobSpec
from modelyard.api.values import parse_uri
from modelyard.engine.plan import Seen
from modelyard.serving.plan import plan_deployment
from modelyard.training.plan import make_planner

from tests.builders import make_settings
from tests.crds.admission import refusals
from tests.unit.serving.world import World, deployment, trained_job

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def _documents() -> list[tuple[str, dict[str, Any]]]:
    files = sorted(path for pattern in ("*.yaml", "*.yml") for path in EXAMPLES.rglob(pattern))
    return [
        (str(path.relative_to(EXAMPLES)), document)
        for path in files
        for document in yaml.safe_load_all(path.read_text())
    ]


DOCUMENTS = _documents()
JOBS = [(name, document) for name, document in DOCUMENTS if document["kind"] == "TrainingJob"]
DEPLOYMENTS = [(name, document) for name, document in DOCUMENTS if document["kind"] == "ModelDeployment"]
each_job = pytest.mark.parametrize("manifest", [job for _, job in JOBS], ids=[name for name, _ in JOBS])


def _as_kubectl(node: Any) -> Any:
    """PyYAML reads 3e-4 as a string, kubectl as a number."""
    if isinstance(node, dict):
        return {key: _as_kubectl(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_as_kubectl(value) for value in node]
    return float(node) if isinstance(node, str) and re.fullmatch(r"[0-9.]+e-?[0-9]+", node) else node


def test_every_kind_of_example_is_there() -> None:
    assert {name.split("/")[0] for name, _ in JOBS} == {
        "quickstart", "sentiment", "causal-lm", "hub-model", "user-image",
    }  # fmt: skip
    assert {name.split("/")[0] for name, _ in DEPLOYMENTS} == {
        "sentiment",
        "causal-lm",
        "hub-model",
        "chat",
        "custom-engine",
        "endpoint",
    }
    assert {document["kind"] for _, document in DOCUMENTS} == {
        "TrainingJob", "ModelDeployment", "ConfigMap", "Ingress", "HTTPRoute", "HorizontalPodAutoscaler",
        "NetworkPolicy",
    }  # fmt: skip


@each_job
def test_a_training_job_is_valid(manifest: dict[str, Any]) -> None:
    assert manifest["apiVersion"] == API_VERSION
    spec = TrainingJobSpec.model_validate(_as_kubectl(manifest["spec"]))
    assert spec.builtin == bool(spec.task and spec.model and spec.data)


@each_job
def test_the_published_schema_accepts_it(manifest: dict[str, Any]) -> None:
    definition = yaml.safe_load((ROOT / "crds" / "modelyard.dev_trainingjobs.yaml").read_text())
    (version,) = definition["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    jsonschema.Draft4Validator(schema).validate(_as_kubectl(manifest["spec"]))


@each_job
def test_the_operator_would_start_it(manifest: dict[str, Any]) -> None:
    settings = Settings(profiles={"default": Profile(trainer_image="trainer:1", agent_image="operator:1")})
    metadata = {**manifest["metadata"], "namespace": "demo", "uid": "1234567890", "generation": 1}
    resource = {**manifest, "metadata": metadata, "spec": _as_kubectl(manifest["spec"])}
    plan = make_planner(lambda: settings)(resource, Seen(), datetime(2026, 1, 1, tzinfo=UTC))
    stalled = [c["message"] for c in plan.status["conditions"] if c["type"] == "Stalled"]
    assert stalled == []
    assert "Job" in {child.manifest["kind"] for child in plan.children}


@each_job
def test_a_field_that_does_not_exist_is_found(manifest: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="learningrate"):
        TrainingJobSpec.model_validate({**_as_kubectl(manifest["spec"]), "learningrate": 1})


@pytest.mark.parametrize("manifest", [d for _, d in DEPLOYMENTS], ids=[name for name, _ in DEPLOYMENTS])
def test_the_operator_would_carry_out_a_deployment(manifest: dict[str, Any]) -> None:
    assert refusals(manifest) == []
    metadata = {**manifest["metadata"], "namespace": "demo", "uid": "1234567890", "generation": 1}
    name = manifest["spec"]["model"].get("trainingJobRef", {}).get("name")
    jobs = {job["metadata"]["name"] for _, job in JOBS}
    assert name is None or name in jobs
    plan = plan_deployment({**manifest, "metadata": metadata}, Seen(), NOW, make_settings())
    assert [c["message"] for c in plan.status["conditions"] if c["type"] == "Stalled"] == []
    kinds = {child.manifest["kind"] for child in plan.children}
    assert kinds >= {"Deployment", "Service", "RoleBinding"}
    assert ("Job" in kinds) == (name is None)  # others wait for their TrainingJob
    if name is not None:
        assert {key.name for key in plan.references} == {name}


def test_what_leads_to_an_endpoint_leads_to_its_service_and_its_scale() -> None:
    found = {document["kind"]: document for name, document in DOCUMENTS if name.startswith("endpoint/")}
    manifest = found["ModelDeployment"]
    metadata = {**manifest["metadata"], "namespace": "demo", "uid": "1234567890", "generation": 1}
    plan = plan_deployment({**manifest, "metadata": metadata}, Seen(), NOW, make_settings())
    services = [c.manifest for c in plan.children if c.manifest["kind"] == "Service"]
    (service,) = (s for s in services if s["metadata"]["name"] == manifest["metadata"]["name"])
    (port,) = service["spec"]["ports"]
    (rule,) = found["HTTPRoute"]["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": service["metadata"]["name"], "port": port["port"]}]
    (path,) = found["Ingress"]["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": service["metadata"]["name"], "port": {"name": port["name"]}}
    annotations = found["Ingress"]["metadata"]["annotations"]
    traffic = manifest["spec"]["traffic"]
    patience = int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"])
    assert traffic["timeoutSeconds"] < patience == int(rule["timeouts"]["request"].removesuffix("s"))
    size = int(annotations["nginx.ingress.kubernetes.io/proxy-body-size"].removesuffix("k"))
    assert size * 1024 == traffic["maxRequestBytes"]
    target = found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target == {
        "apiVersion": API_VERSION,
        "kind": "ModelDeployment",
        "name": manifest["metadata"]["name"],
    }


def test_the_network_policy_is_about_the_pods_that_there_are() -> None:
    world = World()
    world.create(trained_job(), deployment(replicas=1))
    (policy,) = [document for _, document in DOCUMENTS if document["kind"] == "NetworkPolicy"]
    chosen = policy["spec"]["podSelector"]["matchLabels"]
    (rule,) = policy["spec"]["ingress"]
    admitted = rule["from"][0]["podSelector"]["matchLabels"]
    templates = [
        found["spec"]["template"] for found in world.cluster.objects.values() if found["kind"] == "Deployment"
    ]
    servers, gateways = (
        [t for t in templates if wanted.items() <= t["metadata"]["labels"].items()]
        for wanted in (chosen, admitted)
    )
    assert len(servers) == len(gateways) == 1 and servers != gateways
    (container,) = servers[0]["spec"]["containers"]
    assert [port["containerPort"] for port in container["ports"]] == [port["port"] for port in rule["ports"]]


def test_the_quickstart_has_ten_lines_at_most() -> None:
    assert len((EXAMPLES / "quickstart" / "trainingjob.yaml").read_text().splitlines()) <= 10


def test_every_config_map_that_a_job_names_comes_with_it() -> None:
    for name, job in JOBS:
        folder = name.split("/")[0]
        maps = {
            document["metadata"]["name"]: document["data"]
            for other, document in DOCUMENTS
            if document["kind"] == "ConfigMap" and other.startswith(folder + "/")
        }
        for source in job["spec"].get("data", {}).get("sources", []):
            location = parse_uri(source["uri"], ("pvc", "https", "configmap"))
            if location.scheme == "configmap":
                assert location.path in maps[location.name]
        overlay = job["spec"].get("trainer", {}).get("podTemplate", {}).get("spec", {})
        for volume in overlay.get("volumes", []):
            assert volume["configMap"]["name"] in maps


def test_the_users_script_is_python() -> None:
    document = yaml.safe_load((EXAMPLES / "user-image" / "script.yaml").read_text())
    compile(document["data"]["train.py"], "train.py", "exec")


@pytest.mark.parametrize(
    "page", ["README.md", "examples/README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_and_paths_of_the_documents_exist(page: str) -> None:
    path = ROOT / page
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in link:
            assert (path.parent / link).exists(), link
    for named in re.findall(
        r"`((?:examples|charts|docs|tests|images|operator|crds)/[\w./-]+)`", path.read_text()
    ):
        assert (ROOT / named).exists(), named


def test_every_reason_in_the_documents_is_one_that_the_program_gives() -> None:
    table = (ROOT / "docs" / "concepts.md").read_text().split("## Reasons")[1].split("## What a deleted")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    reasons = {reason for cell in cells for reason in re.findall(r"`(\w+)`", cell)}
    folders = [ROOT / "operator", ROOT / "images"]
    sources = "\n".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    assert len(reasons) > 20
    assert {reason for reason in reasons if not re.search(rf"\b{reason}\b", sources)} == set()


def test_every_warning_about_data_that_the_program_gives_is_in_the_documents() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "images" / "trainer").rglob("*.py"))
    given = set(re.findall(r"(?:suspicions\.add\(|_tell_classes\()\s*\"(\w+)\"", sources))
    assert len(given) >= 10
    text = (ROOT / "docs" / "concepts.md").read_text()
    assert {reason for reason in given if f"`{reason}`" not in text} == set()


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_manifests_in_the_documents_are_valid(page: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
        for document in yaml.safe_load_all(block):
            if isinstance(document, dict) and document.get("kind") == "TrainingJob":
                TrainingJobSpec.model_validate(_as_kubectl(document["spec"]))
