"""The generated files: what they hold, and that a difference is noticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from modelyard.api.generate import CHART, CRDS, HEADER, chart_copy, differences, generated, main, write
from modelyard.api.resources import TRAINING_JOB

ROOT = Path(__file__).parents[3]
CRD = CRDS / "modelyard.dev_trainingjobs.yaml"


def test_the_committed_files_are_up_to_date() -> None:
    assert differences(ROOT, generated()) == []


def test_the_crd_is_small_enough_for_a_client_side_apply() -> None:
    assert len(generated()[CRD]) < 262_144 / 2


def test_the_crd_says_where_it_comes_from_and_reads_as_it_was_built() -> None:
    text = generated()[CRD]
    assert text.startswith(f"# {HEADER}\n")
    assert yaml.safe_load(text) == TRAINING_JOB.definition()


def test_every_column_reads_a_field_of_the_schema() -> None:
    root = TRAINING_JOB.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for column in TRAINING_JOB.columns:
        node = root
        for name in (
            column["jsonPath"]
            .removeprefix(".")
            .replace('conditions[?(@.type=="Ready")]', "conditions")
            .split(".")
        ):
            if column["jsonPath"].startswith(".metadata"):
                break
            node = node.get("items", node)
            node = node.get("properties", {}).get(name) or node["additionalProperties"]
        else:
            assert node["type"] == column["type"]


def test_the_chart_installs_and_keeps_the_crd_as_the_values_say() -> None:
    text = generated()[CHART / CRD.name]
    lines = [line for line in text.splitlines() if "{{" in line]
    assert lines == [
        f"{{{{- /* {HEADER} */ -}}}}",
        "{{- if .Values.crds.install }}",
        "  {{- if .Values.crds.keep }}",
        "  {{- end }}",
        "{{- end }}",
    ]
    plain = yaml.safe_load("\n".join(line for line in text.splitlines() if "{{" not in line))
    assert plain["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert plain == TRAINING_JOB.definition()


def test_braces_in_a_description_are_no_template() -> None:
    assert 'a: \'{{ "{{" }} x {{ "}}" }}\'' in chart_copy("kind: x\nmetadata:\n  name: y\na: '{{ x }}'\n")


def test_a_crd_without_metadata_is_refused() -> None:
    with pytest.raises(ValueError, match="no metadata block"):
        chart_copy("kind: x\n")


def test_check_notices_missing_changed_and_left_over_files(tmp_path: Path) -> None:
    files = generated()
    write(tmp_path, files)
    assert differences(tmp_path, files) == []
    (tmp_path / CRD).write_text("changed")
    (tmp_path / CHART / CRD.name).unlink()
    (tmp_path / CRDS / "old.yaml").write_text(f"# {HEADER}\n")
    (tmp_path / CRDS / "README.md").write_text("by hand")
    assert differences(tmp_path, files) == [
        f"{CHART / CRD.name} is missing",
        f"{CRD} differs from the models",
        f"{CRDS / 'old.yaml'} is not generated any more",
    ]
    write(tmp_path, files)
    assert differences(tmp_path, files) == []
    assert (tmp_path / CRDS / "README.md").read_text() == "by hand"


def test_the_command_writes_then_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pyproject.toml").touch()
    assert main(["--check", "--root", str(tmp_path)]) == 1
    assert f"{CRD} is missing: run `make generate` and commit the result" in capsys.readouterr().err
    assert main(["--root", str(tmp_path)]) == 0
    assert main(["--check", "--root", str(tmp_path)]) == 0


def test_the_command_refuses_to_write_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--root", str(tmp_path)])
    assert "is not the root of the checkout" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_module_is_a_command() -> None:
    command = [sys.executable, "-m", "modelyard.api.generate", "--help"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "operator")}, check=True
    )
    assert "--check" in done.stdout


def test_the_reference_has_a_row_for_every_field() -> None:
    text = generated()[Path("docs/reference/trainingjob.md")]
    for row in (
        "| `spec.training.learningRate` | number: > 0 | Peak learning rate, as 2e-5. Default: 5e-05. |",
        "| `spec.trainer.env[].secretKeyRef.key` | string |",
        "| `spec.data.sources[].name` | string |",
        "| `status.attempts[].failure.exitCode` | integer: ≥ -2147483648, ≤ 2147483647 |",
        "| `spec.trainer.numProcPerNode` | integer or string (≥ 1, ≤ 1024) |",
    ):
        assert row in text
