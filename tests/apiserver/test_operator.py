"""The operator as a process against a real API server: hand-over, death at each write, rest."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.conftest import Kubectl, StartOperator

MORTAL = Path(__file__).with_name("mortal.py")
# Whether KEDA has come is looked for in the first two minutes, and then at a sign.
CALLS = r'modelyard_api_requests_total\{.*resource="(?!leases|scaledobjects|customresourcedefinitions).*'
KINDS = "trainingjobs,jobs,services,persistentvolumeclaims"


def training_job(name: str, **spec: Any) -> str:
    job = {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {
            "task": "text-classification",
            "model": {"uri": "pvc://inputs/model"},
            "data": {"sources": [{"name": "rows", "uri": "pvc://inputs/rows.csv"}]},
            "trainer": {"resourcesPerNode": {"limits": {"cpu": "1", "memory": "1Gi"}}},
            **spec,
        },
    }
    return json.dumps(job)


class Yard:
    """One namespace, by kubectl."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl = kubectl
        self._namespace = namespace

    def __call__(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self._kubectl("--namespace", self._namespace, *arguments, **options)

    def create(self, name: str, **spec: Any) -> None:
        self("create", "-f", "-", input=training_job(name, **spec))

    def objects(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(
            self("get", KINDS, "--output=json", "--show-managed-fields").stdout
        )["items"]
        return [o for o in items if o["metadata"]["name"] != "kube-root-ca.crt"]

    def versions(self) -> dict[str, str]:
        return {
            f"{o['kind']}/{o['metadata']['name']}": o["metadata"]["resourceVersion"] for o in self.objects()
        }

    def condition(self, name: str, kind: str) -> dict[str, Any] | None:
        status = json.loads(self("get", "tj", name, "--output=json").stdout).get("status", {})
        return next((c for c in status.get("conditions", []) if c["type"] == kind), None)


@pytest.fixture
def yard(kubectl: Kubectl, namespace: str, crds: None) -> Yard:
    return Yard(kubectl, namespace)


def wait(what: str, check: Callable[[], Any], timeout: float = 15.0) -> float:
    """Waits until the check holds; returns the seconds that took."""
    started = time.monotonic()
    while not check():
        assert time.monotonic() - started < timeout, f"{what}: not within {timeout} s"
        time.sleep(0.05)
    return time.monotonic() - started


def has_job(yard: Yard, name: str) -> bool:
    return yard("get", "job", f"{name}-prepare-1", check=False).returncode == 0


def settled(yard: Yard, quiet: float = 1.5) -> None:
    """Waits until nothing has changed for a while."""
    last, since = yard.versions(), time.monotonic()
    until = since + 30
    while time.monotonic() - since < quiet:
        assert time.monotonic() < until, "objects keep changing"
        time.sleep(0.2)
        now = yard.versions()
        if now != last:
            last, since = now, time.monotonic()


def test_a_job_gets_its_children_and_status_and_then_costs_no_call(
    yard: Yard, operator: StartOperator
) -> None:
    process = operator()
    process.wait_for("leading")
    yard.create("a")
    wait("the Job", lambda: has_job(yard, "a"))
    settled(yard)
    requests = process.metric(CALLS)
    versions = yard.versions()
    time.sleep(6)
    assert process.metric(CALLS) == requests
    assert yard.versions() == versions
    assert process.stop() == 0
    assert process.complaints() == []


def test_a_restart_rewrites_nothing(yard: Yard, operator: StartOperator) -> None:
    first = operator()
    first.wait_for("leading")
    for name in ("a", "b", "c"):
        yard.create(name)
    wait("the Jobs", lambda: all(has_job(yard, n) for n in "abc"))
    settled(yard)
    assert first.stop() == 0
    versions = yard.versions()
    second = operator()
    second.wait_for("leading")
    settled(yard)
    assert yard.versions() == versions
    assert second.metric("modelyard_writes_total.*") == 0


def test_after_sigterm_a_waiting_operator_takes_over_within_two_seconds(
    yard: Yard, operator: StartOperator
) -> None:
    first = operator()
    first.wait_for("leading")
    second = operator()
    second.wait_for("cache filled")
    yard.create("a")
    wait("the Job", lambda: has_job(yard, "a"))
    assert (first.leads(), second.leads()) == (True, False)
    assert second.metric("modelyard_writes_total.*") == 0
    assert first.stop() == 0
    yard.create("b")
    assert wait("the Job of the next leader", lambda: has_job(yard, "b")) < 2.5
    assert second.leads()


def test_after_sigkill_the_lease_must_expire_first(yard: Yard, operator: StartOperator) -> None:
    first = operator()
    first.wait_for("leading")
    second = operator()
    second.wait_for("cache filled")
    first.stop(signal.SIGKILL)
    yard.create("a")
    assert 8 < wait("the Job of the next leader", lambda: has_job(yard, "a"), timeout=25) < 20


def test_a_frozen_leader_ends_when_it_wakes_up_under_another(yard: Yard, operator: StartOperator) -> None:
    first = operator()
    first.wait_for("leading")
    second = operator()
    second.wait_for("cache filled")
    first.process.send_signal(signal.SIGSTOP)
    second.wait_for("leading", timeout=25)
    yard.create("a")
    wait("the Job", lambda: has_job(yard, "a"))
    writes = second.metric("modelyard_writes_total.*")
    first.process.send_signal(signal.SIGCONT)
    assert first.process.wait(10) == 1
    assert second.leads()
    settled(yard)
    assert second.metric("modelyard_writes_total.*") >= writes
    assert "modelyard_writes_total" not in first.log.read_text()


def comparable(yard: Yard, old: str, new: str) -> dict[str, Any]:
    """The objects of one job with its name replaced, without what counts or names a moment."""
    text = json.dumps({f"{o['kind']}/{o['metadata']['name']}": o for o in yard.objects()})
    state: dict[str, Any] = {}
    text = text.replace(f"{old}-", f"{new}-").replace(f'/{old}"', f'/{new}"')
    for key, obj in json.loads(text).items():
        managers = sorted({f"{m['manager']} {m['operation']}" for m in obj["metadata"]["managedFields"]})
        conditions = [
            (c["type"], c["status"], c["reason"])
            for c in obj.get("status", {}).get("conditions", [])
            if obj["kind"] == "TrainingJob"
        ]
        state[key] = {
            "labels": sorted(obj["metadata"].get("labels", {})),
            "owners": [o["kind"] for o in obj["metadata"].get("ownerReferences", [])],
            "managers": [m for m in managers if m.startswith("modelyard")],
            "conditions": conditions,
            "suspend": obj.get("spec", {}).get("suspend"),
            "phase": obj.get("status", {}).get("phase") if obj["kind"] == "TrainingJob" else None,
        }
    return state


def events(yard: Yard) -> list[str]:
    """Reasons of the Events; messages name pods, whose names are random."""
    found = json.loads(yard("get", "events", "--output=json").stdout)["items"]
    return sorted(e["reason"] for e in found if e["involvedObject"]["kind"] == "TrainingJob")


def test_killed_at_each_write_it_reaches_the_same_end(
    yard: Yard, operator: StartOperator, kubectl: Kubectl
) -> None:
    """Each process lives for one write.

    Compared with a life that nothing disturbed, in the same namespace before.
    """

    def live(name: str, advance: Callable[[], None]) -> tuple[dict[str, Any], list[str]]:
        yard.create(name)
        advance()
        yard("patch", "tj", name, "--type=merge", "--patch", '{"spec":{"suspend":true}}')
        advance()
        end = comparable(yard, name, "x"), events(yard)
        yard("delete", "tj", name)
        wait("everything gone", lambda: not yard.objects(), timeout=30)
        yard("delete", "events", "--all")
        return end

    def undisturbed() -> None:
        settled(yard)

    deaths: list[str] = []

    def mortal() -> None:
        for _ in range(40):
            process = operator("--no-leader-election", script=MORTAL)
            process.wait_for("cache filled")
            try:
                process.process.wait(3)
            except subprocess.TimeoutExpired:
                process.stop()  # nothing was left to write
                return
            assert process.process.returncode == -signal.SIGKILL, process.log.read_text()[-2000:]
            deaths.append(process.log.read_text().splitlines()[-1])
        raise AssertionError(f"still writing: {deaths[-5:]}")

    calm = operator("--no-leader-election")
    calm.wait_for("cache filled")
    expected = live("calm", undisturbed)
    assert calm.stop() == 0
    assert live("hard", mortal) == expected
    assert len(deaths) >= 5
    assert (
        len(deaths) == len(set(deaths)) or max(deaths.count(d) for d in deaths) <= 4
    )  # no write in a circle


def test_a_pod_that_is_gone_as_soon_as_it_has_ended_has_told_why(yard: Yard, operator: StartOperator) -> None:
    operator("--no-leader-election").wait_for("cache filled")
    yard.create("short")
    selector = ("--selector", "modelyard.dev/trainingjob=short", "--output", "name")
    wait("the pod", lambda: yard("get", "pods", *selector).stdout.strip())
    pod = yard("get", "pods", *selector).stdout.strip()
    # The Job controller's finalizer keeps a deleted pod until it has ended, and not a moment longer.
    yard("delete", pod, "--wait=false")
    result = {
        "contractVersion": 1,
        "stage": "prepare",
        "outcome": "failed",
        "failure": {"reason": "ColumnNotFound", "message": "There is no column bodi."},
    }
    ended = {"exitCode": 2, "message": json.dumps(result), "finishedAt": "2026-01-01T00:00:00Z"}
    container = {
        "name": "prepare", "image": "i", "imageID": "", "ready": False, "restartCount": 0,
        "state": {"terminated": ended},
    }  # fmt: skip
    status = {"status": {"phase": "Failed", "containerStatuses": [container]}}
    yard("patch", pod, "--subresource=status", "--type=merge", "--patch", json.dumps(status))
    wait("the reason", lambda: (yard.condition("short", "Stalled") or {}).get("reason") == "ColumnNotFound")
    assert not yard("get", "pods", *selector).stdout.strip()


def test_a_quota_reaches_the_user_as_a_condition_and_its_end_lets_the_job_go_on(
    yard: Yard, operator: StartOperator
) -> None:
    yard("create", "quota", "none", "--hard=count/jobs.batch=0")
    wait("the quota", lambda: '"used"' in yard("get", "quota", "none", "--output=json").stdout)
    operator("--no-leader-election").wait_for("cache filled")
    yard.create("a")

    def refused() -> bool:
        ready = yard.condition("a", "Ready")
        return (
            ready is not None and ready["reason"] == "QuotaExceeded" and "exceeded quota" in ready["message"]
        )

    wait("Ready=False, QuotaExceeded", refused)
    yard("delete", "quota", "none")
    wait("the Job", lambda: has_job(yard, "a"), timeout=70)
    wait("no complaint any more", lambda: not refused())


def test_without_the_crds_or_with_a_bad_file_it_says_what_to_do(
    operator: StartOperator, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("profiles: {default: {}}")
    process = operator("--profiles", str(bad))
    assert process.process.wait(15) == 1
    assert "profiles.default.trainerImage" in process.log.read_text()
    assert "Traceback" not in process.log.read_text()


def test_a_job_has_series_of_its_own_from_its_first_pod_to_its_end(
    operator: StartOperator, yard: Yard
) -> None:
    running = operator()
    yard.create("one")
    wait("the job's Job", lambda: has_job(yard, "one"))
    series = r'modelyard_trainingjob_(phase|info)\{.*name="one".*'
    wait("its series", lambda: running.metric(series) == 2)
    assert running.metric(r'modelyard_trainingjob_phase\{name="one",namespace=".*",phase="Preparing"\}') == 1
    yard("delete", "tj", "one", "--wait=true")
    wait("their end", lambda: running.metric(series) == 0)
    assert running.complaints() == []
