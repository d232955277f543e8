"""The chart's alerts, judged by promtool: what makes each of them fire, and what does not."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from modelyard.features import FEATURES
from modelyard.telemetry.metrics import Metrics

from tests import prometheus

ROOT = Path(__file__).parents[3]
RULES = ROOT / "charts" / "modelyard" / "files" / "alerts.yaml"
ALERTS = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}
JOB = 'namespace="ns", name="a", instance="i"'


class Case(NamedTuple):
    """Series by promtool's notation, a value a minute; whether the alert stands `at` that minute."""

    alert: str
    series: dict[str, str]
    at: int
    fires: bool


def job(name: str, values: str, **labels: str) -> dict[str, str]:
    """A series of one TrainingJob."""
    more = "".join(f', {key}="{value}"' for key, value in labels.items())
    return {f"modelyard_trainingjob_{name}{{{JOB}{more}}}": values}


def later(name: str, values: str, **labels: str) -> dict[str, str]:
    """The same series, as another operator has them."""
    (series,) = job(name, values, **labels)
    return {series.replace('instance="i"', 'instance="j"'): values}


def calls(good: str, bad: str) -> dict[str, str]:
    name = 'modelyard_api_requests_total{{method="GET", code="{}"}}'
    return {name.format(200): good, name.format(503): bad, name.format(0): "0x60"}


WAITS = {'modelyard_leader{pod="b"}': "0x60"}
RAN = {"modelyard_leader": "1x60"}
TRAINS = job("phase", "1x60", phase="Training")
ALLOWED = job("checkpoint_max_lost_seconds", "600x60") | TRAINS
CASES = {
    "nobody is scraped": Case("ModelyardOperatorDown", {}, 11, True),
    "nobody is scraped for a moment": Case("ModelyardOperatorDown", {}, 5, False),
    "an operator is there": Case("ModelyardOperatorDown", {"modelyard_leader": "1x60"}, 30, False),
    "one of two installs is gone": Case(
        "ModelyardOperatorDown",
        {'modelyard_leader{namespace="a"}': "1x60", 'modelyard_leader{namespace="b"}': "1x5 _x60"}, 30, True,
    ),
    "an operator's pod is replaced": Case(
        "ModelyardOperatorDown",
        {'modelyard_leader{job="m", pod="a"}': "1x20 _x60", 'modelyard_leader{job="m", pod="b"}': "_x22 1x60"},
        50, False,
    ),
    "one of two installs waits for the Lease": Case(
        "ModelyardOperatorNotLeading",
        {'modelyard_leader{namespace="a"}': "1x60", 'modelyard_leader{namespace="b"}': "0x60"}, 6, True,
    ),
    "a job of the smaller of two installs has failed": Case(
        "ModelyardTrainingJobsFailed",
        {
            'modelyard_leader{namespace="a"}': "1x60", 'modelyard_leader{namespace="b"}': "1x60",
            'modelyard_resources{kind="TrainingJob", phase="Failed", project="p", namespace="a"}': "9x60",
            'modelyard_resources{kind="TrainingJob", phase="Failed", project="p", namespace="b"}': "0x20 1x30",
        },
        25, True,
    ),
    "two wait for the Lease": Case(
        "ModelyardOperatorNotLeading", {'modelyard_leader{pod="a"}': "0x60"} | WAITS, 6, True
    ),
    "one of two leads": Case(
        "ModelyardOperatorNotLeading", {'modelyard_leader{pod="a"}': "1x60"} | WAITS, 30, False
    ),
    "a fifth of the calls fail": Case("ModelyardApiErrors", calls("0+40x60", "0+10x60"), 30, True),
    "one call in fifty fails": Case("ModelyardApiErrors", calls("0+49x60", "0+1x60"), 30, False),
    "nobody calls": Case("ModelyardApiErrors", calls("5x60", "5x60"), 30, False),
    "a status was refused": Case(
        "ModelyardStatusRefused", {'modelyard_refused_writes_total{kind="TrainingJob"}': "0x20 1x20"}, 30, True
    ),
    "a status was refused hours ago": Case(
        "ModelyardStatusRefused", {'modelyard_refused_writes_total{kind="TrainingJob"}': "1x60"}, 30, False
    ),
    "a job has failed": Case(
        "ModelyardTrainingJobsFailed",
        RAN | {'modelyard_resources{kind="TrainingJob", phase="Failed", project="p", team="t"}': "3x20 4x30"},
        25, True,
    ),
    "the first job of a team has failed": Case(
        "ModelyardTrainingJobsFailed",
        RAN | {'modelyard_resources{kind="TrainingJob", phase="Failed", project="p", team="new"}': "_x20 1x30"},
        25, True,
    ),
    "an operator begins anew beside jobs that failed long ago": Case(
        "ModelyardTrainingJobsFailed",
        RAN | {
            'modelyard_resources{kind="TrainingJob", phase="Failed", project="p", team="t", pod="a"}': "3x20 _x30",
            'modelyard_resources{kind="TrainingJob", phase="Failed", project="p", team="t", pod="b"}': "_x20 0 2 3x30",
        },
        25, False,
    ),
    "the first operator of all finds failed jobs": Case(
        "ModelyardTrainingJobsFailed",
        {'modelyard_leader': "_x20 1x40",
         'modelyard_resources{kind="TrainingJob", phase="Failed", project="p", team="t"}': "_x20 3x30"}, 25, False,
    ),
    "failed jobs are deleted": Case(
        "ModelyardTrainingJobsFailed",
        RAN | {'modelyard_resources{kind="TrainingJob", phase="Failed", project="p", team="t"}': "3x20 1x30"},
        25, False,
    ),
    "jobs succeed": Case(
        "ModelyardTrainingJobsFailed",
        RAN | {'modelyard_resources{kind="TrainingJob", phase="Succeeded", project="p", team="t"}': "3x20 9x30"},
        25, False,
    ),
    "no step for long": Case("ModelyardTrainingJobNoProgress", job("step", "7x60") | TRAINS, 45, True),
    "a slow step now and then": Case(
        "ModelyardTrainingJobNoProgress", job("step", "7x25 8x25 9x25") | TRAINS, 45, False
    ),
    "no step for long, and another operator tells of it": Case(
        "ModelyardTrainingJobNoProgress",
        job("step", "7x20") | later("step", "_x21 7x40") | job("phase", "1x20", phase="Training")
        | later("phase", "_x21 1x40", phase="Training"), 45, True,
    ),
    "slow steps, and another operator tells of the last": Case(
        "ModelyardTrainingJobNoProgress",
        job("step", "6x10 7x10") | later("step", "_x21 7x10 8x40") | later("phase", "_x21 1x60", phase="Training"),
        45, False,
    ),
    "a step of an hour": Case(
        "ModelyardTrainingJobNoProgress", job("step", "7x70 8x70") | job("step_seconds", "3600x140")
        | job("phase", "1x140", phase="Training"), 65, False,
    ),
    "no step for six hours": Case(
        "ModelyardTrainingJobNoProgress", job("step", "7x400") | job("step_seconds", "3600x400")
        | job("phase", "1x400", phase="Training"), 395, True,
    ),
    "an evaluation that takes long": Case(
        "ModelyardTrainingJobNoProgress", job("step", "7x60") | job("phase", "1x60", phase="Evaluating"), 45, False
    ),
    "a program that reports no steps": Case("ModelyardTrainingJobNoProgress", TRAINS, 45, False),
    "three interruptions": Case(
        "ModelyardTrainingJobRestartsInARow",
        job("interruptions", "0x10 1x10 2x10 3x20", cause="infrastructure"), 40, True,
    ),
    "three interruptions of several kinds": Case(
        "ModelyardTrainingJobRestartsInARow",
        job("interruptions", "0x10 2x40", cause="process") | job("interruptions", "0x10 1x40", cause="user"), 40, True,
    ),
    "one interruption": Case(
        "ModelyardTrainingJobRestartsInARow", job("interruptions", "0x10 1x40", cause="infrastructure"), 40, False
    ),
    "preemptions, which save first": Case(
        "ModelyardTrainingJobRestartsInARow", job("interruptions", "0x10 5x40", cause="preemption"), 40, False
    ),
    "no checkpoint since the attempt began": Case(
        "ModelyardTrainingJobCheckpointOld", ALLOWED | job("attempt_start_timestamp_seconds", "0x60"), 31, True
    ),
    "the last checkpoint is old": Case(
        "ModelyardTrainingJobCheckpointOld",
        ALLOWED | job("attempt_start_timestamp_seconds", "0x60") | job("checkpoint_timestamp_seconds", "600x60"),
        41, True,
    ),
    "checkpoints come as they should": Case(
        "ModelyardTrainingJobCheckpointOld",
        ALLOWED | job("attempt_start_timestamp_seconds", "0x60") | job("checkpoint_timestamp_seconds", "0+60x60"),
        50, False,
    ),
    "an attempt that has just begun, after an old checkpoint": Case(
        "ModelyardTrainingJobCheckpointOld",
        ALLOWED | job("attempt_start_timestamp_seconds", "1200x60") | job("checkpoint_timestamp_seconds", "60x60"),
        31, False,
    ),
    "a job that does not train": Case(
        "ModelyardTrainingJobCheckpointOld",
        job("checkpoint_max_lost_seconds", "600x60") | job("attempt_start_timestamp_seconds", "0x60"), 50, False,
    ),
    "leaked texts": Case(
        "ModelyardTrainingDataSuspicious", job("data_warning", "12x10", reason="LeakedTexts"), 5, True
    ),
    "clean data": Case("ModelyardTrainingDataSuspicious", job("rows", "12x10", state="in"), 5, False),
}  # fmt: skip

# An operator and a job with which all is well, for hours. The job has the name of the cases'.
WELL = RAN | calls("0+50x400", "0x400") | job("step", "0+1x400") | job("phase", "1x400", phase="Training") | {
    "modelyard_leader": "1x400",
    'modelyard_refused_writes_total{kind="TrainingJob"}': "9x400",
    'modelyard_resources{kind="TrainingJob", phase="Failed", project="p", team="t"}': "9x400",
    **job("interruptions", "9x400", cause="infrastructure"),
    **job("attempt_start_timestamp_seconds", "0x400"),
    **job("checkpoint_timestamp_seconds", "0+60x400"),
    **job("checkpoint_max_lost_seconds", "600x400"),
}  # fmt: skip


def put_into(cluster: str, series: dict[str, str]) -> dict[str, str]:
    """The series as a Prometheus has them that sees several clusters."""
    named = (name if "{" in name else f"{name}{{}}" for name in series)
    return {
        name.replace("{", f'{{cluster="{cluster}", ').replace(", }", "}"): values
        for name, values in zip(named, series.values(), strict=True)
    }


@pytest.fixture(scope="session")
def tool() -> Path:
    return prometheus.find("promtool")


def check(tool: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(tool), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_rules_are_rules(tool: Path) -> None:
    done = check(tool, "check", "rules", RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


@pytest.mark.parametrize("name", CASES)
def test_an_alert_stands_where_it_should_and_only_there(tool: Path, name: str, tmp_path: Path) -> None:
    case = CASES[name]
    standing = f'count(ALERTS{{alertname="{case.alert}", alertstate="firing"}}) or vector(0)'
    judge(tool, tmp_path, case, case.series, standing, {"labels": "{}", "value": int(case.fires)})


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.fires and case.series])
def test_an_alert_stands_for_the_cluster_in_which_it_should(tool: Path, name: str, tmp_path: Path) -> None:
    case = CASES[name]
    standing = f'count by (cluster) (ALERTS{{alertname="{case.alert}", alertstate="firing"}})'
    series = put_into("ill", case.series) | put_into("well", WELL)
    judge(tool, tmp_path, case, series, standing, {"labels": '{cluster="ill"}', "value": 1})


def judge(
    tool: Path, tmp_path: Path, case: Case, series: dict[str, str], standing: str, sample: dict[str, Any]
) -> None:
    """Fails unless the expression gives the sample at the case's minute."""
    expected = {"expr": standing, "eval_time": f"{case.at}m", "exp_samples": [sample]}
    test: dict[str, Any] = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": each, "values": values} for each, values in series.items()],
                "promql_expr_test": [expected],
            }
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump(test))
    done = check(tool, "test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_stays_silent() -> None:
    told = {(case.alert, case.fires) for case in CASES.values()}
    assert told == {(alert, fires) for alert in ALERTS for fires in (True, False)}


def test_every_metric_of_a_rule_is_one_that_the_operator_has() -> None:
    measures = {f.kind.name: f.measure for f in FEATURES if f.measure is not None}
    known = set(Metrics(measures).registry._names_to_collectors)
    for name, rule in ALERTS.items():
        used = set(re.findall(r"\bmodelyard_[a-z_]+", rule["expr"]))
        assert used, name
        assert used <= known, f"{name}: {used - known}"


def test_every_alert_has_a_section_in_the_runbooks() -> None:
    titles = set(re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE))
    assert titles == set(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
