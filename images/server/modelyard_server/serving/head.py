"""How a task reads its model: from the model's output to one vector a text, and from vectors to named tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from modelyard_server.package.folder import Package
from modelyard_server.package.tokens import Batch
from modelyard_server.runtimes.runtime import Floats, Output

if TYPE_CHECKING:
    from modelyard_server.serving.predictor import Predictor


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An output. `shape` is that of one text's part; `wanted`: it is given unless others are asked for."""

    name: str
    datatype: str
    shape: tuple[int, ...] = ()
    wanted: bool = True

    def describe(self) -> dict[str, Any]:
        """As the Open Inference Protocol's metadata has it."""
        return {"name": self.name, "datatype": self.datatype, "shape": [-1, *self.shape]}


class Head(ABC):
    """One for each loaded model. `switches` are outputs that a parameter of their name asks for, besides others."""

    output: ClassVar[Output]
    switches: ClassVar[tuple[str, ...]] = ()

    def __init__(self, package: Package) -> None:
        self.package = package

    @property
    def shares(self) -> bool:
        """Whether several texts can be in one batch."""
        return True

    @abstractmethod
    def read(self, found: Floats, batch: Batch) -> Floats:
        """One vector a row, (rows, numbers)."""

    @abstractmethod
    async def prove(self, predictor: Predictor) -> None:
        """As Served.prove."""

    @abstractmethod
    def list_outputs(self) -> Sequence[TensorInfo]:
        """All that can be asked for."""

    @abstractmethod
    def make_outputs(self, names: Sequence[str], vectors: Sequence[Floats]) -> list[list[str] | Floats]:
        """The data of each named output, flat."""
