"""A runtime: it loads a package's weights and computes batches, all on one thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from modelyard_server.package.folder import Package
from modelyard_server.package.tokens import Batch

Floats: TypeAlias = Any  # a NumPy array of float32


@dataclass(frozen=True, slots=True)
class Output:
    """What a task wants of a model. `auto_class` is transformers', `field` that of its output, `rank` its dimensions.

    `needs_all`: every weight is used, so that none may be missing in the folder. `pages`: what it remembers of a text
    lies in pages.
    """

    auto_class: str
    field: str
    rank: int
    needs_all: bool = True
    pages: bool = False


class Runtime(ABC):
    """A loaded model."""

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def load(cls, package: Package, output: Output, threads: int) -> Runtime:
        """Loads the weights. Raises Failure (ModelInvalid)."""

    @abstractmethod
    def run(self, batch: Batch) -> Floats:
        """The wanted output, (rows, …), in float32."""
