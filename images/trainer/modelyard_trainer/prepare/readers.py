"""Rows out of files: csv, json, jsonl, parquet and text; all but parquet also gzipped. One row at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from modelyard.api.data import DataSource
from modelyard_models.failure import source_failure, storage_failure

from modelyard_trainer.prepare.decoding import FileText
from modelyard_trainer.prepare.formats import csv, json, jsonl, parquet, text
from modelyard_trainer.prepare.formats.columns import Row, Wanted
from modelyard_trainer.prepare.sources import SourceFile


@dataclass
class FileReader:
    """Reads one file. `recoded` counts its lines that were not UTF-8 (see decoding)."""

    spec: DataSource
    file: SourceFile
    labelled: bool
    recoded: int = 0

    @property
    def where(self) -> str:
        """Source and file, as messages begin."""
        return f"source {self.spec.name}, {self.file.name}"

    def rows(self) -> Iterator[Row]:
        """Yields the rows. Raises Failure (ColumnNotFound, DataInvalid …) naming source and line."""
        try:
            yield from self._rows()
        except OSError as error:
            if self.file.url is not None:  # a download lies in the job's own storage
                raise storage_failure(error, f"reading {self.file.url}") from error
            raise source_failure(error, self.where) from error

    def _rows(self) -> Iterator[Row]:
        assert self.file.path is not None  # noqa: S101 - opened by sources.open_source
        wanted = Wanted(self.spec.columns, self.labelled, self.where)
        if self.file.format == "parquet":
            yield from parquet.read(self.file.path, wanted)
            return
        content = FileText(self.file.path, self.where)
        if self.file.format == "csv":
            yield from csv.read(content, wanted, self.spec.delimiter)
        else:
            yield from {"json": json, "jsonl": jsonl, "text": text}[self.file.format].read(content, wanted)
        self.recoded = content.recoded
