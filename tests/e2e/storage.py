"""Looks into a job's storage through a pod that mounts its claim."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from tests.e2e.harness import Kube, TrainingJob, restricted_pod


@dataclass(frozen=True)
class Reader:
    """A running pod with the storage claim at /storage; paths are below the job's run folder."""

    kube: Kube
    pod: str
    run_dir: str

    def execute(self, script: str, timeout: float = 180) -> str:
        """Runs Python with the run folder as the working directory."""
        code = f"import os; os.chdir({'/storage/' + self.run_dir!r})\n{script}"
        return self.kube.execute(self.pod, "python3", "-c", code, timeout=timeout)

    def read(self, path: str) -> str:
        """A text file's content."""
        return self.execute(f"print(open({path!r}).read())")

    def files(self, path: str = ".") -> list[str]:
        """Names in a folder."""
        found: list[str] = json.loads(
            self.execute(f"import json; print(json.dumps(sorted(os.listdir({path!r}))))")
        )
        return found


def open_reader(kube: Kube, job: TrainingJob, image: str, claim: str | None = None) -> Reader:
    """Starts the pod and waits for it."""
    name = f"reader-{job.name}"
    kube.apply(restricted_pod(name, image, ["sleep", "3600"], {"/storage": claim or f"{job.name}-storage"}))
    kube.run("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=60s", timeout=70)
    found = kube.get("tj", job.name)
    assert found is not None
    uid = found["metadata"]["uid"].replace("-", "")[:8]
    return Reader(kube, name, f"runs/{kube.namespace}/{job.name}-{uid}")


def wait_gone(kube: Kube, resource: str, selector: str, seconds: float) -> list[str]:
    """Names that are still there after so long; empty when all went."""
    deadline = time.monotonic() + seconds
    while True:
        left = [item["metadata"]["name"] for item in kube.find(resource, selector)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.5)
