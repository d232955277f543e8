"""In real pods: from a pod that is stopped or vanishes to a verified checkpoint, to the next new step, and the
steps lost.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any
from urllib.request import urlopen

from modelyard.contract import codes

from tests.bench.sections import Rows
from tests.bench.server import Server
from tests.e2e import jobs
from tests.e2e.harness import Kube, TrainingJob
from tests.e2e.setup import bring_up, fresh_namespace
from tests.e2e.storage import Reader, open_reader

NAMESPACE = "bench"
ROUNDS = 3


def long_run() -> dict[str, Any]:
    """Two pods, saving often, too long to end by itself."""
    spec = jobs.classification(steps=100_000, nodes=2, checkpoint={"every": {"steps": 20}, "keepLast": 100})
    spec["failurePolicy"] = {"backoff": {"initialSeconds": 0, "maxSeconds": 0}}
    return spec


def ask(server: Server, path: str) -> dict[str, Any]:
    """What the API server answers, or a pod through it; empty where that fails.

    A kubectl for each question would take half a processor from those who are waited for.
    """
    try:
        with urlopen(server.url + path, context=server.ssl, timeout=2) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except (OSError, ValueError):
        return {}


def wait_new_step(job: TrainingJob, attempt: int, began: float) -> float:
    """Seconds from `began` until the next attempt has done a step of its own."""
    server = Server(job.kube.kubeconfig)
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    while time.time() < began + 180:
        listed = ask(server, pods).get("items", ())
        names = [pod["metadata"]["name"] for pod in listed if pod["status"].get("phase") == "Running"]
        for name in (n for n in names if n.startswith(f"{job.name}-train-{attempt + 1}-0-")):
            report = ask(server, f"{pods}/{name}:{codes.AGENT_PORT}/proxy/v1/progress")
            if report.get("step", 0) > (report.get("resumedFrom") or 0):
                return time.time() - began
        time.sleep(0.2)
    raise TimeoutError(f"no new step in 180 s\n{job.describe()}")


def stop_pod(job: TrainingJob, reader: Reader, grace: bool) -> dict[str, Any]:
    """Deletes the second pod, with or without its grace period. Times are of the machine's one clock."""
    before = job.wait_step((job.progress().get("step") or 0) + 25)
    attempt = before["attempt"]
    pod = next(
        p["metadata"]["name"]
        for p in job.kube.pods(job.name)
        if f"-train-{attempt}-1-" in p["metadata"]["name"]
    )
    began = time.time()
    job.kube.run("delete", "pod", pod, "--wait=false", *([] if grace else ["--grace-period=0", "--force"]))
    seconds = wait_new_step(job, attempt, began)
    ended = next(a for a in job.status()["attempts"] if a["index"] == attempt)
    row: dict[str, Any] = {
        "cause": ended["cause"], "next_step_s": round(seconds, 1), "lost_steps": ended.get("lostSteps"),
    }  # fmt: skip
    if grace:
        # The agent writes a checkpoint's manifest, with the time, when it has read back and hashed the files.
        manifest = json.loads(reader.read(f"a{attempt}/checkpoint-{ended['toStep']}/manifest.json"))
        row["checkpoint_s"] = round(manifest["time"] - began, 1)
    return row


def measure_pod(kube: Kube, trainer_image: str, name: str, grace: bool) -> dict[str, Any]:
    """Medians over ROUNDS deletions of a pod of a job of its own."""
    job = TrainingJob(kube, name, long_run()).create()
    try:
        job.wait_step(1)
        reader = open_reader(kube, job, trainer_image)
        found = [stop_pod(job, reader, grace) for _ in range(ROUNDS)]
    finally:
        job.delete()  # it would take the processors from the next
    print(json.dumps(found), flush=True)
    row: dict[str, Any] = {"rounds": ROUNDS, "causes": ", ".join(sorted({f["cause"] for f in found}))}
    for key in ("checkpoint_s", "next_step_s", "lost_steps"):
        values = [f[key] for f in found if f.get(key) is not None]
        row[key] = statistics.median(values) if values else None
    return row


def measure(rows: Rows) -> None:
    """One row for a pod that is asked to stop and one for a pod that vanishes."""
    cluster = bring_up()
    kube = cluster.kube(NAMESPACE)
    fresh_namespace(kube)
    kube.apply(jobs.inputs())
    try:
        for pod, grace in (("asked to stop", True), ("gone without a word", False)):
            with rows.measure(pod=pod) as row:
                name = "stopped" if grace else "gone"
                row |= measure_pod(kube, cluster.images["trainer"], name, grace)
    finally:
        kube.run("delete", "namespace", NAMESPACE, "--wait=false")
