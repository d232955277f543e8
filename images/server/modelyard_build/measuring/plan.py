"""What a process that measures is told, and what it tells back."""

from __future__ import annotations

from pathlib import Path

from modelyard.contract.base import ContractModel


class Plan(ContractModel):
    """`begun` is time.monotonic() of when the process was started. Which model, the server config says.

    The first `count` rows are answered, as many of them as can be in `seconds`.
    """

    begun: float
    rows: Path
    answers: Path
    reference: Path | None
    count: int | None
    seconds: float | None


class Scored(ContractModel):
    """How many rows were answered."""

    rows: int


class Figures(Scored):
    """See contract.build.VariantReport. `max_length` is what the model takes."""

    max_length: int
    load_seconds: float
    latency_milliseconds: float
    requests_per_second: float
    concurrency: float
