"""The command line as a whole, with a kubectl of our own in place of the real one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from modelyard.cli.main import main

from tests.podsecurity import assert_restricted

EXAMPLES = Path(__file__).parents[3] / "examples"
EXAMPLE = EXAMPLES / "sentiment/trainingjob.yaml"
DEPLOYMENT = EXAMPLES / "sentiment/modeldeployment.yaml"


def render(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[dict[str, object]], str]:
    code = main(["render", *words])
    captured = capsys.readouterr()
    return code, list(yaml.safe_load_all(captured.out)), captured.err


def test_the_example_is_rendered_without_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    code, objects, _ = render(capsys, "-f", str(EXAMPLE))
    assert code == 0
    assert [o["kind"] for o in objects] == ["PersistentVolumeClaim", "Job"]


def test_the_train_stage_is_rendered_with_its_service(capsys: pytest.CaptureFixture[str]) -> None:
    code, objects, _ = render(capsys, "-f", str(EXAMPLE), "--stage", "train", "-n", "team")
    assert code == 0
    assert [o["kind"] for o in objects] == ["PersistentVolumeClaim", "Service", "Job"]
    job = objects[-1]
    assert job["metadata"]["namespace"] == "team"  # type: ignore[index]
    assert_restricted(job["spec"]["template"]["spec"])  # type: ignore[index]


def test_a_deployment_begins_with_its_gateways_and_its_build(capsys: pytest.CaptureFixture[str]) -> None:
    code, objects, _ = render(capsys, "-f", str(DEPLOYMENT))
    assert code == 0
    kinds = [o["kind"] for o in objects]
    assert kinds == ["ServiceAccount", "RoleBinding", "Service", "PodDisruptionBudget", "Deployment", "Job"]
    config = json.loads(objects[-1]["spec"]["template"]["metadata"]["annotations"]["modelyard.dev/config"])  # type: ignore[index]
    assert config["uri"].startswith("pvc://sentiment-storage/runs/default/sentiment-")


def test_the_serve_stage_adds_the_first_revisions_servers(capsys: pytest.CaptureFixture[str]) -> None:
    code, objects, _ = render(capsys, "-f", str(DEPLOYMENT), "--stage", "serve")
    assert code == 0
    assert "Job" not in [o["kind"] for o in objects], "it has ended by then"
    gateway, server = (o for o in objects if o["kind"] == "Deployment")
    assert gateway["metadata"]["name"] == "sentiment-gateway"  # type: ignore[index]
    assert server["metadata"]["labels"]["modelyard.dev/revision"]  # type: ignore[index]
    assert server["spec"]["replicas"] == 1  # type: ignore[index]
    assert_restricted(server["spec"]["template"]["spec"])  # type: ignore[index]


def test_a_deployment_of_a_model_from_elsewhere_has_a_claim_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, objects, _ = render(capsys, "-f", str(EXAMPLES / "hub-model/modeldeployment.yaml"), "--stage", "serve")
    names = [o["metadata"]["name"] for o in objects if o["kind"] == "PersistentVolumeClaim"]  # type: ignore[index]
    assert len(names) == 1 and names[0].endswith("-models")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"profile": "gpu"}, "ProfileNotFound: "),
        ({"model": {"trainingJobRef": "sentiment"}}, "InvalidSpec: spec.model.trainingJobRef"),
        ({"model": None}, "InvalidSpec: spec.model"),
    ],
)
def test_a_deployment_that_is_refused_says_why(
    spec: dict[str, object], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    manifest = yaml.safe_load(DEPLOYMENT.read_text())
    manifest["spec"] |= spec
    path = tmp_path / "deployment.yaml"
    path.write_text(yaml.safe_dump(manifest))
    for stage in ("build", "serve"):
        code, objects, error = render(capsys, "-f", str(path), "--stage", stage)
        assert (code, objects) == (1, [])
        assert f"modelyard: sentiment: {words}" in error


def test_of_a_file_with_both_kinds_each_is_rendered_at_its_own_stage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "both.yaml"
    path.write_text(EXAMPLE.read_text() + "---\n" + DEPLOYMENT.read_text())
    _, objects, _ = render(capsys, "-f", str(path))
    assert [o["metadata"]["name"] for o in objects if o["kind"] == "Job"] == [  # type: ignore[index]
        "sentiment-prepare-1",
        next(o["metadata"]["name"] for o in objects if "build" in o["metadata"]["name"]),  # type: ignore[index]
    ]
    _, objects, _ = render(capsys, "-f", str(path), "--stage", "train")
    assert "Deployment" not in [o["kind"] for o in objects]


def test_a_stage_of_another_kind_is_an_error_that_names_the_right_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["render", "-f", str(DEPLOYMENT), "--stage", "train"]) == 2
    assert "a ModelDeployment has no stage train; use build or serve" in capsys.readouterr().err


def test_what_a_cluster_has_said_of_it_is_left_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    manifest = yaml.safe_load(EXAMPLE.read_text())
    manifest["status"] = {"phase": "Succeeded", "completionTime": "2026-01-01T00:00:00Z"}
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(manifest))
    assert render(capsys, "-f", str(path)) == render(capsys, "-f", str(EXAMPLE))


def test_a_refused_manifest_says_why(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    manifest = yaml.safe_load(EXAMPLE.read_text())
    manifest["spec"]["training"]["args"] = {"warmup_ratio": 0.1}
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(manifest))
    code, objects, error = render(capsys, "-f", str(path))
    assert code == 1
    assert objects == []
    assert "UnknownArgument: spec.training.args.warmup_ratio was removed" in error


def test_profiles_are_read_from_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    profiles = tmp_path / "profiles.yaml"
    profile = {
        "trainerImage": "example.org/t:2",
        "agentImage": "example.org/o:2",
        "storage": {"uri": "pvc://shared/jobs"},
    }
    profiles.write_text(yaml.safe_dump({"profiles": {"default": profile}}))
    manifest = yaml.safe_load(EXAMPLE.read_text())
    del manifest["spec"]["storage"]
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(manifest))
    _, objects, _ = render(capsys, "-f", str(path), "--profiles", str(profiles))
    assert [o["kind"] for o in objects] == ["Job"], "a shared claim is not created"
    assert objects[0]["spec"]["template"]["spec"]["containers"][0]["image"] == "example.org/t:2"  # type: ignore[index]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't read"),
        ("kind: [", "no YAML"),
        ("kind: Pod", "no TrainingJob or ModelDeployment"),
        ("", "no TrainingJob"),
    ],
)
def test_a_file_that_is_no_manifest_is_an_error(
    content: str | None, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "job.yaml"
    if content is not None:
        path.write_text(content)
    assert main(["render", "-f", str(path)]) == 2
    assert words in capsys.readouterr().err


def fake_kubectl(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    script = folder / "kubectl"
    script.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setenv("KUBECTL", str(script))


def test_status_asks_kubectl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = json.dumps({"metadata": {"name": "j"}, "status": {"phase": "Training"}})
    wanted = ["--namespace", "team", "get", "trainingjobs.modelyard.dev", "j", "-o", "json"]
    fake_kubectl(tmp_path, monkeypatch, f"assert sys.argv[1:] == {wanted!r}, sys.argv\nprint({job!r})")
    assert main(["status", "j", "-n", "team"]) == 0
    assert capsys.readouterr().out == "j  Training\n"


@pytest.mark.parametrize(
    "target",
    [
        "md/d",
        "modeldeployment/d",
        "ModelDeployment/d",
        "modeldeployments/d",
        "modeldeployment.modelyard.dev/d",
    ],
)
def test_a_kind_is_named_as_kubectl_takes_and_prints_it(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["get", "modeldeployments.modelyard.dev", "d", "-o", "json"]
    found = json.dumps({"metadata": {"name": "d"}})
    fake_kubectl(tmp_path, monkeypatch, f"assert sys.argv[1:] == {wanted!r}, sys.argv\nprint({found!r})")
    assert main(["status", target]) == 0
    assert capsys.readouterr().out == "d  Pending\n"


@pytest.mark.parametrize("target", ["tj/j", "trainingjob/j", "j"])
def test_a_name_alone_is_a_training_jobs(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = json.dumps({"metadata": {"name": "j"}})
    fake_kubectl(
        tmp_path,
        monkeypatch,
        f"assert sys.argv[2:4] == ['trainingjobs.modelyard.dev', 'j']\nprint({found!r})",
    )
    assert main(["status", target]) == 0


@pytest.mark.parametrize("target", ["pod/x", "md/", "/x", "", "md/a/b"])
def test_what_is_neither_kind_nor_name_is_an_error_that_says_what_is(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", target]) == 2
    assert f"{target!r} is not NAME or tj/NAME (a TrainingJob) or md/NAME" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("sys.exit('Error from server (NotFound): trainingjobs.modelyard.dev \"j\" not found')", "not found"),
        ("sys.exit('The connection to the server was refused')", "refused"),
        ("print('<html>')", "no JSON"),
    ],
)
def test_what_kubectl_says_is_passed_on(
    body: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_kubectl(tmp_path, monkeypatch, body)
    assert main(["watch", "j"]) == 2
    assert words in capsys.readouterr().err


def test_a_missing_kubectl_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECTL", "/nowhere/kubectl")
    assert main(["status", "j"]) == 2
    assert "/nowhere/kubectl is not installed" in capsys.readouterr().err


def test_the_command_line_needs_no_cluster_library() -> None:
    import subprocess

    code = "import sys, modelyard.cli.main; sys.exit(bool({'kubernetes', 'kopf'} & set(sys.modules)))"
    env = {"PYTHONPATH": str(Path(__file__).parents[3] / "operator")}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 0
