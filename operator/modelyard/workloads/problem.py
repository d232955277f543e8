"""A reason and a sentence: why something does not go on, and what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """`reason` is a condition's reason (PascalCase); `message` says what happened and what to change.

    `fatal`: it does not go away by waiting.
    """

    reason: str
    message: str
    pod: str | None = None
    fatal: bool = False


class Refused(Exception):  # noqa: N818 — a refusal of the spec, no error of ours
    """The spec can't be carried out as it stands; nothing is created."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(reason, message)
