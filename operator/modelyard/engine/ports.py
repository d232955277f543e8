"""What the engine needs from outside.

The edge implements it; tests have it in memory, on a clock of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from modelyard.engine.plan import Key, Manifest
from modelyard.engine.probe import Age, Question

# Fields belong to the manager that applied them last. Children and their mutable paths have two managers,
# because an apply gives up every field that it leaves out: one of `spec.suspend` alone would give up the
# whole Job.
CHILD_MANAGER = "modelyard"
MUTABLE_MANAGER = "modelyard-mutable"
STATUS_MANAGER = "modelyard-status"


class Cluster(Protocol):
    """Writes to the API server. Every call ends within a bounded time, or raises an `errors.ClusterError`."""

    async def apply(self, manifest: Manifest, *, manager: str = CHILD_MANAGER, new: bool = False) -> Manifest:
        """Server-side apply, creation included. Returns the object as the server has it now.

        One that shall be `new` is created or nothing is done: Conflict where there is an object of that name.
        """

    async def find(self, key: Key) -> Manifest | None:
        """The object of that name, whoever made it, as the server has it now."""

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """Server-side apply of the status subresource. Returns the whole object."""

    async def delete(self, key: Key, uid: str) -> Manifest | None:
        """Deletes that very object, and what it owns in the background.

        Returns the object where something (a finalizer) still holds it, else None. An object that is gone is
        no error.
        """

    async def create_event(self, manifest: Manifest) -> None:
        """Creates a Kubernetes Event. One of that name that exists already is no error."""


class Timer(Protocol):
    """Something that will happen."""

    def cancel(self) -> None:
        """Lets it not happen."""


class Clock(Protocol):
    """Time."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Calls back after `delay` seconds."""


class Facts(Protocol):
    """Asks questions and keeps their last answers."""

    def watch(self, key: Key, questions: Sequence[Question]) -> None:
        """Asks exactly these for this resource from now on; other answers are forgotten."""

    def of(self, key: Key) -> Mapping[str, Mapping[str, Any]]:
        """The last answers, by the questions' names."""

    def ages(self, key: Key) -> Mapping[str, Age]:
        """How old those are that pods have given."""


class Observer(Protocol):
    """Is told what the engine did, for metrics."""

    def reconciled(self, key: Key, seconds: float, outcome: str) -> None:
        """A pass ended: `settled`, `waiting`, `refused`, `error`."""

    def wrote(self, kind: str, operation: str) -> None:
        """A call was made: `apply`, `mutate`, `delete`, `status`, `event`."""

    def refused(self, kind: str, operation: str) -> None:
        """The API server said no to a write that only we can be wrong about: `status`."""

    def holds(self, key: Key, resource: Manifest | None) -> None:
        """The resource's present state; None once it is gone."""

    def reported(self, key: Key, resource: Manifest, status: Mapping[str, Any]) -> None:
        """A status was written in place of the one that the resource had."""
