"""The stages of a ModelDeployment that can be rendered."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import ValidationError

from modelyard.api.modeldeployment import ModelDeploymentSpec
from modelyard.api.profile import Settings
from modelyard.cli.kind import DIGEST, UID, Stage
from modelyard.contract import layout
from modelyard.engine.plan import Key, Manifest, Plan, Seen
from modelyard.serving import names, source
from modelyard.serving.plan import plan_deployment


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
    try:
        spec = ModelDeploymentSpec.model_validate(deployment.get("spec") or {})
    except ValidationError:
        return Seen()  # the plan says what is wrong
    keys = source.find_references(deployment["metadata"]["namespace"], spec)
    return Seen(references={key: _finish(key) for key in keys})


def _finish(key: Key) -> Manifest:
    model = layout.model_dir(layout.run_dir(key.namespace, key.name, UID))
    return {
        "metadata": {"name": key.name, "generation": 1},
        "status": {
            "observedGeneration": 1,
            "completionTime": "1970-01-01T00:00:00Z",
            "conditions": [{"type": "Ready", "status": "True"}],
            "data": {"digest": DIGEST},
            "model": {"uri": f"pvc://{key.name}-storage/{model}", "digest": DIGEST},
        },
    }


STAGES = (Stage("build", plan_build), Stage("serve", plan_serve))
