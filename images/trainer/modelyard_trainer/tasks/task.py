"""A task: all in which it differs from the others, from its rows in the data to what is said of its model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from modelyard.api.tasks import TASKS
from modelyard_models.failure import Failure, nearest

if TYPE_CHECKING:
    from modelyard_trainer.prepare.cleaned import Cleaned
    from modelyard_trainer.prepare.tokenizer import Tokenizer
    from modelyard_trainer.train.metrics import Sums


class Task(ABC):
    """One task. What the API knows of it, its metrics and its labels, stands in `modelyard.api.tasks`.

    `auto_class` is transformers'; `noun` what its models are called, and `families` some that have one, as examples;
    `call` is how a transformers pipeline of it is called, in the model's card. `predicts_tokens`: it is trained on
    the token that follows, and must not see it. `frames`: a tokenizer that is trained for it puts a token before and
    after each text.
    """

    name: ClassVar[str]
    auto_class: ClassVar[str]
    noun: ClassVar[str]
    families: ClassVar[str]
    call: ClassVar[str]
    predicts_tokens: ClassVar[bool] = False
    frames: ClassVar[bool] = False

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that are measured, without prefix."""
        return TASKS[self.name].metrics

    @property
    def labelled(self) -> bool:
        """Whether each row of its data has one class."""
        return TASKS[self.name].labelled

    def check_metric(self, metric: str) -> None:
        """Refuses a gate on something that isn't measured. Raises Failure (InvalidArgument)."""
        measured = TASKS[self.name].gate_metrics
        if metric not in measured:
            near = nearest(metric, list(measured))
            raise Failure(
                "InvalidArgument",
                f"gate.metric {metric} isn't measured for {self.name}; use one of {', '.join(measured)}"
                + (f" (did you mean {near}?)" if near else ""),
            )

    def select_metrics(self, measured: dict[str, Any]) -> dict[str, float]:
        """Its metrics, named eval_*, out of all that the Trainer tells of an evaluation."""
        return {n: float(measured[n]) for n in TASKS[self.name].gate_metrics if n in measured}

    def load_class(self) -> Any:
        """The class of transformers that makes its models."""
        import transformers

        return getattr(transformers, self.auto_class)

    @abstractmethod
    def write_splits(
        self, folder: Path, cleaned: Cleaned, parts: dict[str, Any], tokenizer: Tokenizer, max_length: int
    ) -> dict[str, dict[str, Any]]:
        """Writes the splits (rows of `cleaned`, by their names) as shards below `folder`.

        Returns their part of the report. Raises Failure.
        """

    @abstractmethod
    def adapt(self, config: Any) -> bool:
        """Makes a base model's configuration one of this task, in place. Whether that changes what the model sees.

        Raises Failure (ModelInvalid).
        """

    @abstractmethod
    def make_sums(self) -> Sums:
        """What an evaluation adds rows to, empty."""

    @abstractmethod
    def pick_answer(self, logits: Any) -> Any:
        """Of one row's logits, as its model gives them with a batch of one, those that are its answer: (choices,)."""
