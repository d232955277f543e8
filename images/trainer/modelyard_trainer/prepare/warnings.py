"""What looks wrong and stops nothing: gathered while preparing, told in the status, shown in the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from modelyard.contract.report import DataWarning

LIMIT = 32  # warnings, as many as the status holds
SAMPLES = 20  # of each
_MESSAGE = 600  # characters
_SAMPLE = 300


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One warning with samples of what it speaks of."""

    warning: DataWarning
    samples: list[Any]


@dataclass
class Suspicions:
    """Gathers warnings. Each reason is PascalCase and stands once; a later one of the same replaces it."""

    found: dict[str, Suspicion] = field(default_factory=dict)

    def add(
        self, reason: str, message: str, count: int | None = None, samples: Iterable[object] = ()
    ) -> None:
        """Books one: `message` is a sentence with what to do, `count` what it counts; samples are for the report.

        Samples (text, or JSON objects of text and numbers) are bounded in number and length.
        """
        if reason not in self.found and len(self.found) == LIMIT:
            return
        text = message if len(message) <= _MESSAGE else message[: _MESSAGE - 1] + "…"
        shown = [_shorten(sample) for sample in islice(samples, SAMPLES)]
        self.found[reason] = Suspicion(DataWarning(reason=reason, count=count, message=text), shown)

    def listed(self) -> list[DataWarning]:
        """The warnings, in the order in which they were found."""
        return [suspicion.warning for suspicion in self.found.values()]

    def dump(self) -> list[dict[str, Any]]:
        """The warnings with their samples, for the report."""
        return [
            s.warning.model_dump(by_alias=True, exclude_none=True) | {"samples": s.samples}
            for s in self.found.values()
        ]


def read_warnings(report: dict[str, Any]) -> list[DataWarning]:
    """The warnings of a dataset's report."""
    return [DataWarning.model_validate(warning) for warning in report.get("warnings", ())]


def _shorten(sample: object) -> Any:
    if isinstance(sample, dict):
        return {str(name): _shorten(value) for name, value in sample.items()}
    if isinstance(sample, int | float | None):
        return sample
    text = str(sample)
    return text if len(text) <= _SAMPLE else text[: _SAMPLE - 1] + "…"
