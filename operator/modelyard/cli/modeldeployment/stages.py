"""The stages of a ModelDeployment that can be rendered."""

from __future__ import annotations

from datetime import UTC, datetime

from modelyard.api.profile import Settings
from modelyard.cli.kind import DIGEST, UID, Stage
from modelyard.contract import layout
from modelyard.engine.plan import Key, Manifest, Plan, Seen
from modelyard.serving import names
from modelyard.serving.plan import plan_deployment
from modelyard.serving.source import TRAINING_JOB


def plan_build(deployment: Manifest, settings: Settings) -> Plan:
    """The pass that finds the model: what answers callers from the start, and the build."""
    return plan_deployment(deployment, _see_job(deployment), datetime.now(UTC), settings)


def plan_serve(deployment: Manifest, settings: Settings) -> Plan:
    """The pass after the build: the first revision's servers, too."""
    first = plan_build(deployment, settings)
    jobs = [child.manifest for child in first.children if child.manifest["kind"] == "Job"]
    if not jobs:
        return first  # refused, or suspended
    build = jobs[0]["metadata"]["labels"][names.BUILD_LABEL]
    spec = deployment["spec"]
    method = (spec.get("compression") or {}).get("method", "none")
    # Which one is the fastest that passes is known once it was measured.
    chosen = "none" if method == "auto" else method
    status = {
        **first.status,
        "model": {"uri": "pvc://unknown", "digest": DIGEST, "task": spec.get("task")},
        "compression": {
            "digest": build,
            "folder": f"{layout.package_dir(build)}/{chosen}",
            "runtime": "torch",
            "chosen": chosen,
        },
    }
    return plan_build({**deployment, "status": status}, settings)


def _see_job(deployment: Manifest) -> Seen:
    """A TrainingJob that has left its model in a claim of its own stands for the one that is referred to."""
    spec = deployment.get("spec") or {}
    reference = (spec.get("model") or {}).get("trainingJobRef") or {}
    name, namespace = reference.get("name"), deployment["metadata"]["namespace"]
    if not name:
        return Seen()
    job = {
        "metadata": {"name": name, "generation": 1},
        "spec": {"task": spec.get("task")},
        "status": {
            "observedGeneration": 1,
            "completionTime": "1970-01-01T00:00:00Z",
            "conditions": [{"type": "Ready", "status": "True"}],
            "data": {"digest": DIGEST},
            "model": {
                "uri": f"pvc://{name}-storage/{layout.model_dir(layout.run_dir(namespace, name, UID))}",
                "digest": DIGEST,
            },
        },
    }
    return Seen(references={Key(TRAINING_JOB, namespace, name): job})


STAGES = (Stage("build", plan_build), Stage("serve", plan_serve))
