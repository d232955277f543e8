"""What running pods need, made again where others have deleted it.

Only what is absent is made: what exists stays as it is, also under another profile or a newer operator.
"""

from __future__ import annotations

from modelyard.training import names
from modelyard.training.children import jobs
from modelyard.training.draft import Draft


def keep_service(draft: Draft) -> None:
    """The Service of the train pods: without it a process that starts again finds no master."""
    view = draft.view
    service = names.train_service(view.name)
    if all(child["metadata"]["name"] != service for child in view.seen.of_kind("Service")):
        draft.children.append(jobs.build_service(view.name, view.namespace, view.labels))
