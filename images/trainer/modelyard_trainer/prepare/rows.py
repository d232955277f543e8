"""Batches of rows on their way through the steps, and the book of what was removed and why."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelyard.contract.report import RemovedRows
from modelyard_models.failure import Failure

from modelyard_trainer.prepare.columns import Column
from modelyard_trainer.prepare.formats.columns import Mark
from modelyard_trainer.prepare.readers import FileReader
from modelyard_trainer.prepare.sources import Source
from modelyard_trainer.prepare.spelling import spell_label, spell_text

BATCH = 4096  # rows
_BATCH_CHARACTERS = 1 << 24
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
    columns: list[Column] = field(default_factory=list)

    def batches(self) -> Iterator[list[Item]]:
        """Batches of rows that have a text (and a label where one is needed)."""
        batch: list[Item] = []
        characters = 0
        for source in self.sources:
            for item in self._items(source):
                batch.append(item)
                characters += len(item.text)
                if len(batch) == BATCH or characters >= _BATCH_CHARACTERS:
                    yield batch
                    batch, characters = [], 0
        if batch:
            yield batch

    def _items(self, source: Source) -> Iterator[Item]:
        name, columns = source.spec.name, source.spec.columns
        self.rows[name] = self.recoded[name] = 0
        texts, labels = Column(name, columns.text), Column(name, columns.label, may_be_constant=True)
        self.columns += [texts, labels] if self.labelled else [texts]
        for file in source.files:
            reader = FileReader(source.spec, file, self.labelled)
            for place, (text, label) in enumerate(reader.rows(), 1):
                self.rows[name] += 1
                reason = None
                item = Item(
                    _spell(spell_text, text, reader.where, place, columns.text), None, name, self.rows[name]
                )
                if isinstance(label, Mark):
                    reason = label.value
                elif self.labelled:
                    item.label = _spell(spell_label, label, reader.where, place, columns.label)
                    reason = None if item.label else "emptyLabel"
                if label is not Mark.HEADER:
                    texts.see(item.text)
                    if self.labelled:
                        labels.see(item.label or "")
                if not item.text.strip():
                    reason = "emptyText"
                if reason:
                    self.removals.add(READ, reason, item)
                else:
                    yield item
            self.recoded[name] += reader.recoded


def _spell(spell: Callable[[Any], str], value: Any, where: str, row: int, column: str) -> str:
    try:
        return spell(value)
    except TypeError as error:
        raise Failure(
            "DataInvalid",
            f"{where}, row {row}: column {column!r} holds {error}, not text; name a column of strings or numbers "
            "in data.sources[].columns",
        ) from error
