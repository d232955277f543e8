"""From one revision to the next: which ones there are, how large each is, and where requests go.

Pure arithmetic on what is seen. Which revision serves is read from the weights that stand on the cluster's Services, so
that an operator that dies between any two writes is followed by one that goes on from there.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

FULL = 100  # the weight of a revision that gets all requests


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision as it is: servers asked for, servers that are ready, and its weight."""

    id: str
    replicas: int
    ready: int
    weight: int


@dataclass(frozen=True, slots=True)
class Target:
    """A revision as it shall be."""

    id: str
    replicas: int
    weight: int


def find_serving(revisions: Sequence[Revision]) -> Revision | None:
    """The one that gets the requests; of several, as in the middle of a change, the one with the most ready servers.

    Where none has a weight, as when a Service was lost, the one that could answer.
    """
    able = [revision for revision in revisions if revision.weight > 0 or revision.ready > 0]
    return max(able, key=lambda r: (r.weight, r.ready, r.id), default=None)


def plan(
    wanted: str,
    replicas: int,
    revisions: Sequence[Revision],
    followed: Sequence[Mapping[str, int]],
    *,
    delegated: bool = False,
) -> list[Target]:
    """The revisions that shall be, the one that the spec asks for (`wanted`) first; whatever is missing here goes.

    `replicas` is how many servers the load asks for, 0 included. `followed` has for each gateway that runs the weights
    that it follows. `delegated`: others say how many servers the one has that gets requests, of two the new one.
    """
    known = {revision.id: revision for revision in revisions}
    serving, new = find_serving(revisions), known.get(wanted)
    # One that was never ready is proved by one server at least, even while nobody asks.
    size = max(new.replicas if delegated and new is not None and new.weight > 0 else replicas, 1)
    if serving is None or serving.id == wanted:
        # Nothing else serves, so that waiting would help nobody.
        shall = [Target(wanted, replicas, FULL)]
    elif new is None or new.ready < min(size, max(1, serving.ready)):
        shall = [Target(wanted, size, 0), Target(serving.id, replicas, FULL)]
    elif not _has_taken_over(new, followed):
        shall = [Target(wanted, size, FULL), Target(serving.id, serving.replicas, FULL)]
    else:
        shall = [Target(wanted, size, FULL)]
    heir = known.get(shall[-1].id)
    over = heir is not None and _has_taken_over(heir, followed)
    return [*shall, *_leaving(revisions, {target.id for target in shall}, followed, over=over)]


def _has_taken_over(revision: Revision, followed: Sequence[Mapping[str, int]]) -> bool:
    """Whether no gateway would be without any weight if all others lost theirs.

    The writes of one plan come to the server in any order and one of them may be refused, and gateways hear of each by
    itself: so first the one gains, and what is seen of that lets others lose. Until then they share.
    """
    telling = (weights for weights in followed if any(weights.values()))
    return revision.weight == FULL and all(weights.get(revision.id, 0) > 0 for weights in telling)


def _leaving(
    revisions: Sequence[Revision],
    staying: Container[str],
    followed: Sequence[Mapping[str, int]],
    *,
    over: bool,
) -> list[Target]:
    """Those that lose their requests stay as large as they are until no gateway sends them any; and while it isn't
    `over` none with ready servers goes.
    """
    return [
        Target(revision.id, revision.replicas, 0 if over else revision.weight)
        for revision in revisions
        if revision.id not in staying
        and (revision.weight > 0 or _is_followed(revision.id, followed) or (revision.ready > 0 and not over))
    ]


def _is_followed(revision: str, followed: Sequence[Mapping[str, int]]) -> bool:
    return any(weights.get(revision, 0) > 0 for weights in followed)
