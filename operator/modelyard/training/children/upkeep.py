"""What running pods need, made again where others have deleted it.

Only what is absent is made: what exists stays as it is, also under another profile or a newer operator.
"""

from __future__ import annotations

from modelyard.api.profile import Settings
from modelyard.engine.plan import Child, Manifest
from modelyard.training import names
from modelyard.training.children import jobs, pods, runconfig
from modelyard.training.draft import Draft
from modelyard.workloads import profiles
from modelyard.workloads.problem import Problem, Refused


def keep_service(draft: Draft) -> None:
    """The Service of the train pods: without it a process that starts again finds no master."""
    view = draft.view
    service = names.train_service(view.name)
    if all(child["metadata"]["name"] != service for child in view.seen.of_kind("Service")):
        draft.children.append(jobs.build_service(view.name, view.namespace, view.labels))


def keep_run_config(draft: Draft, settings: Settings, job: Manifest) -> Problem | None:
    """The ConfigMap that a Job's pods mount. What to do where it can't be made again."""
    view = draft.view
    name = _find_name(job)
    if name is None or any(child["metadata"]["name"] == name for child in view.seen.of_kind("ConfigMap")):
        return None
    child = _recall(draft, name) or _rebuild(draft, settings, name)
    if child is not None:
        draft.children.append(child)
        return None
    return Problem(
        "RunConfigMissing",
        f"ConfigMap {name}, which the pods mount, was deleted, and the profile or the operator has changed since,"
        f" so that it can't be made again. Delete Job {job['metadata']['name']}: the next one gets another.",
    )


def _find_name(job: Manifest) -> str | None:
    volumes = job["spec"]["template"]["spec"].get("volumes") or []
    found = next((v for v in volumes if v["name"] == pods.RUN_VOLUME), None)
    return str(found["configMap"]["name"]) if found else None


def _recall(draft: Draft, name: str) -> Child | None:
    """From its last state, which is remembered for a while."""
    view = draft.view
    gone = next(
        (o for o in view.seen.departed if o["kind"] == "ConfigMap" and o["metadata"]["name"] == name), None
    )
    if gone is None:
        return None
    metadata = {
        "name": name,
        "namespace": view.namespace,
        "labels": names.object_labels(view.name, view.labels),
    }
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "immutable": True,
        "data": gone.get("data") or {},
    }
    return Child(manifest, immutable=True)


def _rebuild(draft: Draft, settings: Settings, name: str) -> Child | None:
    """From the spec and the profile; they still give the same if they give the same name."""
    view = draft.view
    try:
        profile = profiles.find(view.spec.profile, settings)
        config = runconfig.build_run_config(
            view.spec, profile, view.namespace, view.name, view.uid, view.labels
        )
    except Refused:
        return None
    child = runconfig.build_config_map(config, view.labels)
    return child if child.manifest["metadata"]["name"] == name else None
