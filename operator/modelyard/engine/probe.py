"""What a plan may ask.

The answers come back as `Seen.facts`. The plan is made again when one has changed, and when a pod falls silent or is
heard again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelyard.engine.compare import digest


@dataclass(frozen=True, slots=True)
class Probe:
    """A pod to ask. Its answer (parsed JSON) comes back as `Seen.facts[name]`.

    `interval` is the least time between two questions, in seconds; they come less often where many are asked. With
    `wait` the pod may hold its answer until it has another than the last, for so many seconds: such an answer is known
    at once. (The question carries `Prefer: wait=<seconds>`, RFC 7240, and `If-None-Match` with the last answer's ETag;
    304 says that there is no other. A pod that knows neither answers at once, which is good, too.)
    """

    name: str
    namespace: str
    pod: str
    ip: str
    port: int
    path: str
    interval: float = 2.0
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class EventProbe:
    """Another controller's Warning Events about one object, to be read where its status can't say what is wrong.

    A plan names it only while something is missing: at rest nothing is asked. The first question waits for
    `after` seconds, in which most probes are no longer named. What the newest of them say comes back as
    `Seen.facts[name]`: `{"events": [{"reason": ..., "message": ...}]}`, newest first, without those that are
    older than ten minutes.
    """

    name: str
    namespace: str
    kind: str
    uid: str
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class ObjectProbe:
    """One object of others, which no watch tells of. The answer: `{"found": bool, "ending": bool}`.

    `{"refused": True}` where the operator may not look. A plan names it only in the passes that hang on it.
    """

    name: str
    namespace: str
    kind: str
    object: str


@dataclass(frozen=True, slots=True)
class Computation:
    """A question whose answer takes time to compute: outside of the plan, in another process.

    `function` (`package.module:name`) is called with `payload` (JSON) and returns JSON. It must be pure, so that an
    operator that begins anew computes the same again. The name holds the payload's digest: what comes back as
    `Seen.facts[name]` is the answer to this very question, `{"answer": ...}`, or `{"error": "..."}` where the function
    raised or did not end.
    """

    function: str
    payload: Mapping[str, Any]
    name: str = field(init=False)

    def __post_init__(self) -> None:
        """Names it."""
        object.__setattr__(self, "name", f"{self.function}:{digest(self.payload)}")


@dataclass(frozen=True, slots=True)
class Age:
    """How old an answer is. `seconds`: since it came, though the pod may have said later that it still holds; `silent`:
    since the pod was last heard of, 0 unless it has been asked in vain since. Of one that has never answered both count
    from when it was first to be asked, once that was in vain.
    """

    seconds: float = 0.0
    silent: float = 0.0


Question = Probe | EventProbe | ObjectProbe | Computation
