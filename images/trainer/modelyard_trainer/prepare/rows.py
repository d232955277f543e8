"""Batches of rows on their way through the steps, and the book of what was removed and why."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from modelyard.contract.report import RemovedRows

from modelyard_trainer.failure import Failure
from modelyard_trainer.prepare.readers import FileReader
from modelyard_trainer.prepare.sources import Source

BATCH = 4096  # rows
_KEPT_ROWS = 10_000  # removed rows written out per step and reason
_KEPT_CHARACTERS = 2_000  # of each removed row
READ = "read"  # the step that removes rows without text or label


@dataclass(slots=True)
class Item:
    """One row. `source` and `number` (from 1, within the source) say where it came from."""

    text: str
    label: str | None
    source: str
    number: int


@dataclass
class Removals:
    """Counts every removed row by step and reason; keeps a bounded sample of them to look at."""

    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    samples: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, step: str, reason: str, item: Item, **more: Any) -> None:
        """Books one removed row."""
        key = (step, reason)
        self.counts[key] = self.counts.get(key, 0) + 1
        sample = self.samples.setdefault(key, [])
        if len(sample) < _KEPT_ROWS:
            row = {
                "source": item.source,
                "row": item.number,
                "label": item.label,
                "text": item.text[:_KEPT_CHARACTERS],
            }
            sample.append(json.dumps(row | more, ensure_ascii=False))

    def listed(self) -> list[RemovedRows]:
        """The counts, in the order of the steps."""
        return [RemovedRows(step=step, reason=reason, rows=n) for (step, reason), n in self.counts.items()]

    @property
    def total(self) -> int:
        """All removed rows."""
        return sum(self.counts.values())

    def write(self, folder: Path) -> None:
        """Writes one <step>.<reason>.jsonl.gz per reason, at most 10,000 rows each."""
        folder.mkdir(parents=True, exist_ok=True)
        for (step, reason), rows in self.samples.items():
            data = gzip.compress(("\n".join(rows) + "\n").encode(), mtime=0)
            (folder / f"{step}.{reason}.jsonl.gz").write_bytes(data)


@dataclass
class Reading:
    """Reads all sources in batches; counts their rows as they pass."""

    sources: list[Source]
    labelled: bool
    removals: Removals
    rows: dict[str, int] = field(default_factory=dict)
    recoded: dict[str, int] = field(default_factory=dict)  # lines that were not UTF-8

    def batches(self) -> Iterator[list[Item]]:
        """Batches of rows that have a text (and a label where one is needed)."""
        items = chain.from_iterable(self._items(source) for source in self.sources)
        while batch := list(islice(items, BATCH)):
            yield batch

    def _items(self, source: Source) -> Iterable[Item]:
        name = source.spec.name
        self.rows[name] = self.recoded[name] = 0
        for file in source.files:
            reader = FileReader(source.spec, file, self.labelled)
            for text, label in reader.rows():
                self.rows[name] += 1
                number = self.rows[name]
                where = f"source {name}, row {number}"
                item = Item(
                    _as_text(text, where, source.spec.columns.text),
                    _as_text(label, where, source.spec.columns.label).strip() if self.labelled else None,
                    name,
                    number,
                )
                if not item.text.strip():
                    self.removals.add(READ, "emptyText", item)
                elif self.labelled and not item.label:
                    self.removals.add(READ, "emptyLabel", item)
                else:
                    yield item
            self.recoded[name] += reader.recoded


def _as_text(value: Any, where: str, column: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        # JSON can spell half a surrogate pair, which is no character and can't be stored.
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return "" if value != value else str(value)
    raise Failure(
        "DataInvalid",
        f"{where}: column {column!r} holds a {type(value).__name__}, not text; name a column of strings or "
        "numbers",
    )
