"""status.revisions: those that are, the newest first, and some that are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modelyard.api.conditions import format_time
from modelyard.api.deploymentstatus import RevisionState, RevisionStatus
from modelyard.serving import names
from modelyard.serving.draft import Draft
from modelyard.serving.revisions import health, scale
from modelyard.serving.revisions.observed import Observed
from modelyard.serving.revisions.rollout import Target


def build(
    draft: Draft, found: Mapping[str, Observed], targets: Sequence[Target], wanted: str | None
) -> list[RevisionStatus]:
    """The list as it is to be written."""
    view = draft.view
    before = {revision.name: revision for revision in view.status.revisions}
    weights = {target.id: target.weight for target in targets}
    there = [
        _describe(draft, each, before.get(names.revision(view.name, each.revision.id)), weights, wanted)
        for each in found.values()
    ]
    there.sort(key=lambda revision: (revision.start_time or "", revision.name), reverse=True)
    present = {revision.name for revision in there}
    gone = [
        revision.changed(
            state="Retired", replicas=0, ready_replicas=0, weight=0, reason=None,
            end_time=revision.end_time or format_time(view.now),
        )
        for revision in view.status.revisions
        if revision.name not in present
    ]  # fmt: skip
    return [*there, *gone[: view.spec.keep_revisions]]


def refresh(draft: Draft, found: Mapping[str, Observed]) -> list[RevisionStatus]:
    """The list as it was, with the servers that there are now."""
    there = {names.revision(draft.view.name, id): each.revision for id, each in found.items()}
    return [
        known.changed(
            replicas=there[known.name].replicas if known.name in there else 0,
            ready_replicas=there[known.name].ready if known.name in there else 0,
        )
        for known in draft.view.status.revisions
    ]


def _describe(
    draft: Draft,
    each: Observed,
    before: RevisionStatus | None,
    weights: Mapping[str, int],
    wanted: str | None,
) -> RevisionStatus:
    revision = each.revision
    problem = health.find_problem(draft, each)
    served = scale.has_served(draft.view, revision.id)
    state: RevisionState
    if weights.get(revision.id, revision.weight) > 0 and (revision.ready > 0 or served):
        state = "Serving"
    elif revision.id == wanted:
        state = "Failed" if draft.stalled is not None and problem is not None else "Starting"
    else:
        state = "Draining"
    weight = weights.get(revision.id, revision.weight)
    drained = None
    if state == "Draining" and weight == 0:
        drained = (before.drain_time if before else None) or format_time(draft.view.now)
    return RevisionStatus(
        name=names.revision(draft.view.name, revision.id),
        digest=each.digest,
        variant=each.variant,
        replicas=revision.replicas,
        ready_replicas=revision.ready,
        weight=weight,
        state=state,
        reason=problem.reason if problem else None,
        start_time=each.created,
        drain_time=drained,
    )
