"""A loaded model, whatever its task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from modelyard_server.batching.progress import Progress
from modelyard_server.failure import Failure


class TooLong(Exception):  # noqa: N818 - the caller's problem
    """A text has more tokens than the model takes. The message says how many, and what to do."""


class NotFinite(Exception):  # noqa: N818 - the model's problem
    """The model's answer holds values that are no numbers."""


class Served(ABC):
    """What the server needs of every model. All but loading happens on the event loop."""

    limit: int  # tokens of one text, or of prompt and answer together

    @property
    @abstractmethod
    def waiting(self) -> int:
        """Requests that wait."""

    @property
    @abstractmethod
    def running(self) -> int:
        """Requests that are computed."""

    @property
    @abstractmethod
    def works(self) -> bool:
        """Whether what computes is still there."""

    @property
    @abstractmethod
    def progress(self) -> Progress:
        """Of what it computes."""

    @property
    def alive(self) -> bool:
        """Whether it can still answer; once not, it never will again."""
        return self.works and self.progress.explain_hang() is None

    @abstractmethod
    def start(self) -> None:
        """Begins to work."""

    @abstractmethod
    async def prove(self) -> None:
        """Asks the model what reference.json says; without one, for any answer of the right form.

        Raises Failure (ModelUnproven).
        """

    def explain_end(self) -> Failure:
        """Why it is not alive any more, though nobody has closed it."""
        hang = self.progress.explain_hang() if self.works else None
        if hang is not None:
            return Failure("ModelHung", hang, temporary=True)
        return Failure(
            "ModelCrashed", "what answers requests has ended; the server's log says why", temporary=True
        )

    @abstractmethod
    def abandon(self) -> None:
        """Tells those who wait that no answer comes, once it is not alive. Waits for nothing."""

    @abstractmethod
    async def close(self) -> None:
        """Ends it; who still waits gets an error."""

    def describe(self) -> dict[str, Any]:
        """`inputs` and `outputs` of its metadata in the Open Inference Protocol; it has none unless it says so."""
        return {"inputs": [], "outputs": []}
