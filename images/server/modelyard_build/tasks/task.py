"""A task, as a build sees it: which models have it, how one is asked, and how two variants' answers compare."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

from modelyard.contract.model import EmbeddingReference, Reference
from modelyard_server.runtimes.runtime import Output
from modelyard_server.serving.served import Served

from modelyard_build.rows import Rows

Answers: TypeAlias = dict[str, Any]  # NumPy arrays, one place a row, and what belongs to all rows


class BuildTask(ABC):
    """One task. `output` is what a model of it gives; `telling`: an architecture that fits says that a model is for it.

    What is asked of a model happens on the event loop of the process that measures it.
    """

    name: ClassVar[str]
    output: ClassVar[Output]
    telling: ClassVar[bool] = True

    @abstractmethod
    def fits(self, architecture: str) -> bool:
        """Whether models of an architecture (a class of transformers) have what the task needs."""

    @abstractmethod
    async def make_requests(self, model: Served, rows: Rows) -> Sequence[Any]:
        """A request for each row."""

    @abstractmethod
    async def ask(self, model: Served, request: Any) -> Any:
        """The answer to one request. Raises what the model raises."""

    @abstractmethod
    def gather(self, model: Served, answers: Sequence[Any]) -> Answers:
        """The answers to the first requests, for `compare`."""

    @abstractmethod
    def compare(self, answers: Answers, base: Answers, rows: Rows) -> tuple[dict[str, float], float]:
        """A variant's metrics, and the share of rows in which it agrees with the model as trained (`base`)."""

    @abstractmethod
    async def refer(
        self, model: Served, requests: Sequence[Any], split: str
    ) -> Reference | EmbeddingReference:
        """The answers to a few of the requests, by which a server knows the variant again."""
