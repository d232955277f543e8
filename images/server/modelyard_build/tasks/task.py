"""A task, as a build sees it: which models have it, how one is asked, and how two variants' answers compare."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

from modelyard.contract.model import REFERENCE_ROWS, REFERENCE_TOKENS
from modelyard_server.package.tokens import Tokens
from modelyard_server.runtimes.runtime import Output
from modelyard_server.serving.served import Served
from modelyard_server.serving.service import Service

from modelyard_build.rows import Rows

Answers: TypeAlias = dict[str, Any]  # NumPy arrays
Picked: TypeAlias = tuple[
    str | None, list[int]
]  # a text, if there is one that leads to the tokens; and these

_LOOKED_AT = 256  # rows, from which those of a reference are taken
_SPECIAL = 8  # tokens that a tokenizer may put around a text
_LEAST = 1e-6
# Share of the largest number that rounding explains between two machines, as where a trained model is exported.
_TOLERANCES = {"float32": 0.01, "float16": 0.02, "bfloat16": 0.05, "int8": 0.1}
_DTYPES = {"bf16": "bfloat16", "int8": "int8"}

Kind = TypeVar("Kind", bound=Served)


class Asker(ABC, Generic[Kind]):
    """Requests to a loaded model, on the event loop of the process that measures it. There are `size` of them."""

    def __init__(self, model: Kind, size: int) -> None:
        self.model, self.size = model, size

    @abstractmethod
    async def ask(self, number: int) -> Any:
        """The answer to a request. Raises what the model raises."""


class BuildTask(ABC):
    """One task. `output` is what a model of it gives.

    `telling`: an architecture that fits says that a model is for it. `apart`: what its models answer to the rows is
    computed by `modelyard_build.measuring.scoring`, and not while they are served.
    """

    name: ClassVar[str]
    output: ClassVar[Output]
    telling: ClassVar[bool] = True
    apart: ClassVar[bool] = False

    @abstractmethod
    def fits(self, architecture: str) -> bool:
        """Whether models of an architecture (a class of transformers) have what the task needs."""

    @abstractmethod
    async def make_asker(self, service: Service, model: Served, rows: Rows) -> Asker[Any]:
        """A request for each row."""

    @abstractmethod
    def compare(self, answers: Answers, base: Answers, rows: Rows) -> tuple[dict[str, float], float]:
        """A variant's metrics, and the share of answers in which it agrees with the model as trained (`base`)."""


def pick_rows(tokens: Tokens, rows: Sequence[Sequence[int]]) -> list[Picked]:
    """Of rows of tokens those of a reference: short ones, spread over them, no two alike, always the same."""
    looked_at = [list(ids) for ids in rows[:_LOOKED_AT]]
    short = [ids for ids in looked_at if len(ids) <= REFERENCE_TOKENS]
    taken = short if len(short) >= REFERENCE_ROWS else sorted(looked_at, key=len)[:REFERENCE_ROWS]
    kept = list({tuple(ids): (text, ids) for text, ids in (_read(tokens, ids) for ids in taken)}.values())
    if len(kept) <= REFERENCE_ROWS:
        return kept
    return [kept[round(i * (len(kept) - 1) / (REFERENCE_ROWS - 1))] for i in range(REFERENCE_ROWS)]


def find_dtype(variant: str, about: Any) -> str:
    """What a variant computes in, as references have it. `about` is the model's configuration."""
    return _DTYPES.get(variant) or str(about.dtype or "float32").removeprefix("torch.")


def find_tolerance(dtype: str, largest: float) -> float:
    """By how much an answer whose numbers are at most `largest` may differ elsewhere."""
    return max(largest, _LEAST) * _TOLERANCES.get(dtype, max(_TOLERANCES.values()))


def _read(tokens: Tokens, ids: list[int]) -> Picked:
    own = ids if len(ids) <= REFERENCE_TOKENS else [*ids[: REFERENCE_TOKENS - 1], ids[-1]]
    text = tokens.decode(ids if own is ids else ids[: REFERENCE_TOKENS - _SPECIAL])
    again = tokens.encode(text).ids.tolist() if text else []
    return (text, again) if 0 < len(again) <= REFERENCE_TOKENS else (None, own)
