"""Creating children: validation first, then the fewest objects that the next step needs."""

from __future__ import annotations

from modelyard.api.profile import Profile, Settings
from modelyard.engine.plan import Child, Rejection
from modelyard.training import names
from modelyard.training.children import jobs, runconfig
from modelyard.training.children.pods import Site
from modelyard.training.draft import Draft
from modelyard.training.spec import frozen, validation
from modelyard.training.view import View
from modelyard.workloads import profiles, refusal
from modelyard.workloads.problem import Problem
from modelyard.workloads.storage import build_claim, find_place

# Where the amounts and the rest of an object of ours are set.
_FIELDS = {
    "PersistentVolumeClaim": ("spec.storage.claim.size", "spec.storage.claim"),
    "Job": ("the profile", "spec.trainer.podTemplate, spec.profile or the profile itself"),
}
_QUOTA = {
    "PersistentVolumeClaim": "Ask for less in spec.storage.claim.size, use a claim that exists (spec.storage.uri), or"
    " have the quota raised; the job then begins by itself.",
}


def create_prepare(draft: Draft, settings: Settings, index: int) -> None:
    """The claim and the Job of this preparation. Raises Refused."""
    view = draft.view
    site, base = _begin(view, settings)
    draft.children += [*base, jobs.build_prepare(site, view.spec, view.labels, index)]
    _report_rejections(draft)


def create_train(draft: Draft, settings: Settings, index: int) -> None:
    """The claim, the Service and the Job of this attempt. Raises Refused."""
    view, data = draft.view, draft.status.data
    site, base = _begin(view, settings)
    job = jobs.build_train(
        site,
        view.spec,
        view.labels,
        index,
        data.digest if data else None,
        data.model_digest if data else None,
        reached=max((attempt.to_step or 0 for attempt in draft.status.attempts), default=0),
    )
    draft.children += [*base, jobs.build_service(view.name, view.namespace, view.labels), job]
    _report_rejections(draft)


def create_collect(draft: Draft, settings: Settings, index: int) -> None:
    """The Job that reads back the result of this attempt. Raises Refused."""
    view = draft.view
    site, base = _begin(view, settings)
    draft.children += [*base, jobs.build_collect(site, view.spec, view.labels, index)]
    _report_rejections(draft)


def check(view: View, settings: Settings) -> Profile:
    """All validation. Raises Refused."""
    frozen.check(view)
    validation.check_name(view.name)
    profile = profiles.find(view.spec.profile, settings)
    validation.check_spec(view.spec, profile, view.name)
    return profile


def _begin(view: View, settings: Settings) -> tuple[Site, list[Child]]:
    profile = check(view, settings)
    config = runconfig.build_run_config(view.spec, profile, view.namespace, view.name, view.uid, view.labels)
    place = find_place(names.storage_claim(view.name), view.spec.storage, profile)
    site = Site(view.namespace, view.name, view.uid, profile, place, runconfig.write(config))
    if place.own is None:
        return site, []
    labels = names.object_labels(view.name, view.labels)
    return site, [build_claim(view, place.claim, labels, place.own, profile)]


def _report_rejections(draft: Draft) -> None:
    """What the API server refused is named, and tried again by the engine."""
    for child in draft.children:
        rejection = draft.view.seen.rejections.get(child.id)
        if rejection is None:
            continue
        problem = _explain_rejection(child, rejection)
        if rejection.reason == "Invalid":
            draft.stalled = problem
        draft.problem = problem
        return


def _explain_rejection(child: Child, rejection: Rejection) -> Problem:
    name = child.manifest["metadata"]["name"]
    if rejection.reason != "Terminating":
        return refusal.explain_rejection(child, rejection, _FIELDS, _QUOTA)
    if child.manifest["kind"] == "PersistentVolumeClaim":
        return Problem(
            "StorageTerminating",
            f"PersistentVolumeClaim {name} is still being deleted; it goes once no pod uses it any more (kubectl"
            f" describe pvc {name} names them). This job then begins by itself.",
        )
    return Problem("Terminating", f"{rejection.message} The job goes on by itself once it is gone.")


def existing(draft: Draft) -> None:
    """Keeps what running pods need."""
    draft.keep_kinds("PersistentVolumeClaim", "Service")


def job_name(view: View, stage: str, index: int) -> str:
    """Name of a stage's Job."""
    return names.stage_job(view.name, stage, index)
