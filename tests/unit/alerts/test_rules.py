"""The chart's alerts, judged by promtool: what makes each of them fire, and what does not."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests import prometheus
from tests.metrics import NAME, find_unknown, read_all

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


def md(name: str, values: str, **labels: str) -> dict[str, str]:
    """A series of one ModelDeployment, which has the name of the cases' jobs."""
    (series,) = job(name, values, **labels)
    return {series.replace("_trainingjob_", "_modeldeployment_"): values}


def condition(kind: str, values: str) -> dict[str, str]:
    return md("condition", values, type=kind)


def pod(metric: str, values: str, pod: str = "p", **labels: str) -> dict[str, str]:
    """A series of one of its pods."""
    more = "".join(f', {key}="{value}"' for key, value in labels.items())
    return {f'{metric}{{namespace="ns", modeldeployment="a", pod="{pod}"{more}}}': values}


def requests(values: str, outcome: str = "ok", revision: str = "r1", pod_name: str = "p") -> dict[str, str]:
    return pod("modelyard_gateway_requests_total", values, pod_name, outcome=outcome, revision=revision)


def away(values: str, reason: str) -> dict[str, str]:
    """Requests that were turned away for this reason, and those for the others, as a gateway tells them."""
    reasons = ("full", "no_room", "no_server", "unreachable", "stopping", "suspended")
    metric = "modelyard_gateway_unavailable_total"
    found: dict[str, str] = {}
    for each in reasons:
        found |= pod(metric, values if each == reason else "0x400", reason=each)
    return found


def durations(fast: str, slow: str, bound: str, metric: str, **labels: str) -> dict[str, str]:
    """A histogram with requests of up to 1 s, and more of up to `bound` seconds: the counts of both together last."""
    found: dict[str, str] = {}
    for le, values in (("1", fast), (bound, slow), ("+Inf", slow)):
        found |= pod(f"{metric}_bucket", values, le=le, **labels)
    return found


def gateway_durations(fast: str, slow: str, bound: str = "60") -> dict[str, str]:
    return durations(
        fast, slow, bound, "modelyard_gateway_request_duration_seconds", outcome="ok", revision="r1"
    )


BUILT = condition("Built", "1x400")
ANSWERS = BUILT | condition("Ready", "1x400") | condition("GatewayReady", "1x400")
SILENT = BUILT | condition("Ready", "0x400") | condition("GatewayReady", "1x400")
INFO = md("info", "1x400", task="text-classification", variant="none")
CHATS = md("info", "1x400", task="text-generation", variant="none")
PATIENT = INFO | md("timeout_seconds", "60x400")
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
    "no server is ready": Case("ModelyardModelDeploymentNotReady", SILENT, 11, True),
    "no server is ready for a moment": Case("ModelyardModelDeploymentNotReady", SILENT, 8, False),
    "the first build takes long": Case(
        "ModelyardModelDeploymentNotReady", SILENT | condition("Built", "0x60"), 40, False
    ),
    "its servers are lost while another model is being built": Case(
        "ModelyardModelDeploymentNotReady",
        condition("Built", "0x60") | condition("Ready", "1x10 0x50") | condition("GatewayReady", "1x60"), 25, True,
    ),
    "a deployment is suspended": Case(
        "ModelyardModelDeploymentNotReady", SILENT | condition("Suspended", "1x60"), 40, False
    ),
    "no gateway is ready": Case(
        "ModelyardModelDeploymentGatewayDown", INFO | SILENT | condition("GatewayReady", "0x60"), 12, True
    ),
    "no gateway is ready, which is the other alert's": Case(
        "ModelyardModelDeploymentNotReady", INFO | SILENT | condition("GatewayReady", "0x60"), 30, False
    ),
    "its gateways are scraped no more": Case(
        "ModelyardModelDeploymentGatewayDown",
        INFO | ANSWERS | pod("modelyard_gateway_servers", "2x10 _x50"), 30, True,
    ),
    "one of two gateways is replaced": Case(
        "ModelyardModelDeploymentGatewayDown",
        INFO | ANSWERS | pod("modelyard_gateway_servers", "2x10 _x50") | pod("modelyard_gateway_servers", "2x60", "q"),
        30, False,
    ),
    "gateways of a deployment that was deleted": Case(
        "ModelyardModelDeploymentGatewayDown", pod("modelyard_gateway_servers", "2x10 _x50"), 30, False
    ),
    "a gateway lost its right to look": Case(
        "ModelyardModelDeploymentGatewayBlind",
        pod("modelyard_gateway_follows", "1x60") | pod("modelyard_gateway_follows", "1x10 0x50", "q"), 25, True,
    ),
    "a gateway's API server is away for a moment": Case(
        "ModelyardModelDeploymentGatewayBlind", pod("modelyard_gateway_follows", "1x10 0x5 1x50"), 20, False
    ),
    "a revision that the operator has given up": Case(
        "ModelyardModelDeploymentStuck", ANSWERS | condition("Stalled", "1x60"), 6, True
    ),
    "a build that is tried again and again": Case(
        "ModelyardModelDeploymentStuck", ANSWERS | condition("UpToDate", "0x90") | condition("ModelReady", "1x90"),
        70, True,
    ),
    "a new revision that is starting": Case(
        "ModelyardModelDeploymentStuck",
        ANSWERS | condition("UpToDate", "1x60 0x40 1x40") | condition("ModelReady", "1x140"), 99, False,
    ),
    "a deployment that was just made": Case(
        "ModelyardModelDeploymentStuck", ANSWERS | condition("UpToDate", "0x90") | condition("ModelReady", "1x90"),
        40, False,
    ),
    "two changes, of which the first was served": Case(
        "ModelyardModelDeploymentStuck",
        ANSWERS | condition("UpToDate", "1x20 0x20 1x20 0x60") | condition("ModelReady", "1x140"), 92, False,
    ),
    "a job that trains anew for hours": Case(
        "ModelyardModelDeploymentStuck", ANSWERS | condition("UpToDate", "0x90") | condition("ModelReady", "0x90"),
        70, False,
    ),
    "another model that waits because the deployment is suspended": Case(
        "ModelyardModelDeploymentStuck",
        condition("UpToDate", "0x90") | condition("ModelReady", "1x90") | condition("Suspended", "1x90"), 70, False,
    ),
    "answers that are not the model's": Case(
        "ModelyardModelDeploymentUnproven", md("failing_revisions", "1x10", reason="ModelUnproven"), 3, True
    ),
    "servers that find no memory": Case(
        "ModelyardModelDeploymentUnproven", md("failing_revisions", "1x10", reason="HostOutOfMemory"), 3, False
    ),
    "one of two servers is missing": Case(
        "ModelyardModelDeploymentServersMissing",
        ANSWERS | md("replicas", "2x60", state="desired") | md("replicas", "1x60", state="ready"), 20, True,
    ),
    "a server that starts": Case(
        "ModelyardModelDeploymentServersMissing",
        ANSWERS | md("replicas", "2x60", state="desired") | md("replicas", "1x10 2x50", state="ready"), 20, False,
    ),
    "no servers while nobody asks": Case(
        "ModelyardModelDeploymentServersMissing",
        ANSWERS | md("replicas", "0x60", state="desired") | md("replicas", "0x60", state="ready"), 20, False,
    ),
    "a server that is killed again and again": Case(
        "ModelyardModelDeploymentRestarts", pod("process_start_time_seconds", "1x10 700x5 1100x5 1500x40"), 25, True
    ),
    "a server that was killed once, and pods that are new": Case(
        "ModelyardModelDeploymentRestarts",
        pod("process_start_time_seconds", "1x10 700x20") | pod("process_start_time_seconds", "_x10 720x20", "q")
        | pod("process_start_time_seconds", "_x12 730x20", "s"), 25, False,
    ),
    "an operator that is started again and again": Case(
        "ModelyardModelDeploymentRestarts",
        {'process_start_time_seconds{job="m", pod="o"}': "1x10 700x5 1100x5 1500x40"}, 25, False,
    ),
    "one request in ten fails": Case(
        "ModelyardModelDeploymentErrors", requests("0+90x90") | requests("0+10x90", "error") | away("0x90", "full"),
        70, True,
    ),
    "one request in ten is turned away, and no server ever failed": Case(
        "ModelyardModelDeploymentErrors", requests("0+90x90") | away("0+10x90", "no_room"), 70, True
    ),
    "one request in two hundred fails": Case(
        "ModelyardModelDeploymentErrors", requests("0+199x90") | requests("0+1x90", "timeout") | away("0x90", "full"),
        70, False,
    ),
    "many requests failed, and none does now": Case(
        "ModelyardModelDeploymentErrors",
        requests("0+90x90") | requests("0+10x30 300x60", "broken") | away("0x90", "full"), 70, False,
    ),
    "one of few requests failed": Case(
        "ModelyardModelDeploymentErrors", requests("0+1x90") | requests("0x66 1x30", "error") | away("0x90", "full"),
        70, False,
    ),
    "callers of a suspended deployment": Case(
        "ModelyardModelDeploymentErrors",
        requests("0+60x90", "unavailable", "") | away("0+60x90", "suspended"), 70, False,
    ),
    "callers that are wrong, or hang up": Case(
        "ModelyardModelDeploymentErrors",
        requests("0+60x90", "refused") | requests("0+60x90", "gone") | away("0x90", "full"), 70, False,
    ),
    "one request in a hundred fails for hours": Case(
        "ModelyardModelDeploymentErrorBudget",
        requests("0+99x90") | requests("0+1x90", "error") | away("0x90", "full"), 70, True,
    ),
    "one request in a thousand fails for hours": Case(
        "ModelyardModelDeploymentErrorBudget",
        requests("0+999x90") | requests("0+1x90", "error") | away("0x90", "full"), 70, False,
    ),
    "the line is full": Case("ModelyardModelDeploymentTurnsAway", away("0x20 3x40", "full"), 25, True),
    "no server came in time": Case("ModelyardModelDeploymentTurnsAway", away("0x20 1x40", "no_server"), 25, True),
    "gateways that stop, long ago a full line": Case(
        "ModelyardModelDeploymentTurnsAway",
        away("0x20 3x40", "stopping") | pod("modelyard_gateway_unavailable_total", "7x60", reason="full"), 25, False,
    ),
    "requests take half of the timeout": Case(
        "ModelyardModelDeploymentSlow", PATIENT | gateway_durations("0+50x60", "0+100x60"), 30, True
    ),
    "requests are fast": Case(
        "ModelyardModelDeploymentSlow", PATIENT | gateway_durations("0+99x60", "0+100x60"), 30, False
    ),
    "one slow request, the only one": Case(
        "ModelyardModelDeploymentSlow", PATIENT | gateway_durations("0x60", "0x20 1x40"), 24, False
    ),
    "nobody asks": Case("ModelyardModelDeploymentSlow", PATIENT | gateway_durations("5x60", "9x60"), 30, False),
    "streams that take long": Case(
        "ModelyardModelDeploymentSlow", PATIENT | CHATS | gateway_durations("0x60", "0+9x60")
        | durations("0+9x60", "0+9x60", "40", "vllm:time_to_first_token_seconds"), 30, False,
    ),
    "streams that take long to begin": Case(
        "ModelyardModelDeploymentSlow", CHATS | md("timeout_seconds", "60x60") | gateway_durations("0x60", "0+9x60")
        | durations("0x60", "0+9x60", "40", "vllm:time_to_first_token_seconds"), 30, True,
    ),
    "the load asks for more than there may be": Case(
        "ModelyardModelDeploymentSaturated",
        md("max_replicas", "4x60") | md("scaling_reason", "_x5 1x55", reason="AtMaximum"), 40, True,
    ),
    "the load asks for more for a moment": Case(
        "ModelyardModelDeploymentSaturated",
        md("max_replicas", "4x60") | md("scaling_reason", "_x30 1x4 _x26", reason="AtMaximum")
        | md("scaling_reason", "1x30 _x4 1x26", reason="AtTarget"), 40, False,
    ),
    "a line stands before as many servers as there may be": Case(
        "ModelyardModelDeploymentSaturated",
        md("max_replicas", "2x60") | md("replicas", "2x60", state="desired")
        | pod("modelyard_gateway_queued_requests", "0x10 4x50"), 40, True,
    ),
    "a line stands while there may be more servers": Case(
        "ModelyardModelDeploymentSaturated",
        md("max_replicas", "4x60") | md("replicas", "2x60", state="desired")
        | pod("modelyard_gateway_queued_requests", "4x60"), 40, False,
    ),
    "no gateway tells its load": Case(
        "ModelyardModelDeploymentNotScaling", ANSWERS | condition("ScalingReady", "0x60"), 20, True
    ),
    "servers are scaled once there are some": Case(
        "ModelyardModelDeploymentNotScaling", SILENT | condition("ScalingReady", "0x60"), 20, False
    ),
}  # fmt: skip

# An operator, a job and a deployment with which all is well, for hours. They have the names of the cases'.
WELL = RAN | calls("0+50x400", "0x400") | job("step", "0+1x400") | job("phase", "1x400", phase="Training") | {
    "modelyard_leader": "1x400",
    'modelyard_refused_writes_total{kind="TrainingJob"}': "9x400",
    'modelyard_resources{kind="TrainingJob", phase="Failed", project="p", team="t"}': "9x400",
    **job("interruptions", "9x400", cause="infrastructure"),
    **job("attempt_start_timestamp_seconds", "0x400"),
    **job("checkpoint_timestamp_seconds", "0+60x400"),
    **job("checkpoint_max_lost_seconds", "600x400"),
    **PATIENT, **ANSWERS, **condition("UpToDate", "1x400"), **condition("ModelReady", "1x400"),
    **condition("ScalingReady", "1x400"),
    **md("max_replicas", "4x400"), **md("scaling_reason", "1x400", reason="AtTarget"),
    **md("replicas", "2x400", state="desired"), **md("replicas", "2x400", state="ready"),
    **pod("process_start_time_seconds", "1x400"), **pod("modelyard_gateway_servers", "2x400"),
    **pod("modelyard_gateway_queued_requests", "0x400"), **requests("0+50x400"), **away("0x400", "full"),
    **gateway_durations("0+50x400", "0+50x400"),
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


@pytest.mark.parametrize("name", ALERTS)
def test_a_rule_asks_for_metrics_and_labels_that_there_are(name: str) -> None:
    assert re.findall(NAME, ALERTS[name]["expr"])
    assert find_unknown(ALERTS[name]["expr"], read_all()) == set()


@pytest.mark.parametrize("name", ALERTS)
def test_a_rule_tells_of_labels_that_its_alert_has(name: str) -> None:
    """Of those that an expression drops templates make nothing at all."""
    kept = set()
    for listed in re.findall(r"\bby \(([^)]*)\)", ALERTS[name]["expr"]):
        kept |= {label.strip() for label in listed.split(",")}
    if not kept:
        kept = set().union(*(read_all()[metric] for metric in re.findall(NAME, ALERTS[name]["expr"])))
    texts = " ".join(ALERTS[name]["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", texts)) <= kept


def test_every_alert_has_a_section_in_the_runbooks() -> None:
    titles = set(re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE))
    assert titles == set(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
