"""Rows that have been read and cleaned, before they are split and tokenised."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from modelyard_trainer.prepare.rows import Reading, Removals
from modelyard_trainer.prepare.spool import Spool
from modelyard_trainer.prepare.warnings import Suspicions


@dataclass
class Cleaned:
    """What is left after the steps. `labels` are ids by row (int32), indices into `names`; None without."""

    spool: Spool
    reading: Reading
    removals: Removals
    suspicions: Suspicions
    changed: list[dict[str, Any]]
    names: list[str] = field(default_factory=list)
    labels: Any = None

    @property
    def rows_in(self) -> int:
        """Rows that were read."""
        return sum(self.reading.rows.values())

    @property
    def labelled(self) -> bool:
        """Whether each has one class."""
        return self.labels is not None
