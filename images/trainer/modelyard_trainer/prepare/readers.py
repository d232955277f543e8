"""Rows out of files: csv, jsonl, parquet and text; all but parquet also gzipped. One row at a time."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.api.data import Columns, DataSource

from modelyard_trainer.failure import Failure, nearest, shorten
from modelyard_trainer.prepare.decoding import Lines
from modelyard_trainer.prepare.sources import SourceFile

_BATCH = 4096  # rows of a parquet file read at once
_DELIMITERS = (",", ";", "\t")
_JSON_PEEK = 100  # rows searched for a column's name before it is said to be missing

Row = tuple[Any, Any]  # text and label, as the file has them; None for nothing


@dataclass
class FileReader:
    """Reads one file. `recoded` counts its lines that were not UTF-8 (see decoding)."""

    spec: DataSource
    file: SourceFile
    labelled: bool
    recoded: int = 0

    def rows(self) -> Iterator[Row]:
        """Yields the rows. Raises Failure (ColumnNotFound, DataInvalid) naming source and line."""
        assert self.file.path is not None  # noqa: S101 - opened by sources.open_source
        where = f"source {self.spec.name}, {self.file.name}"
        if self.file.format == "parquet":
            yield from _read_parquet(self.file.path, self.spec.columns, self.labelled, where)
            return
        reader = {"csv": _read_csv, "jsonl": _read_jsonl, "text": _read_text}[self.file.format]
        lines = Lines(self.file.path, where)
        try:
            yield from reader(lines, self.spec.columns, self.labelled, where)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise Failure(
                "DataInvalid", f"{where}: the gzip file is damaged ({error}); upload it again"
            ) from error
        self.recoded = lines.recoded


def _wanted(columns: Columns, labelled: bool) -> list[str]:
    return [columns.text, columns.label] if labelled else [columns.text]


def _check_columns(found: list[str], columns: Columns, labelled: bool, where: str) -> None:
    for role, name in (("text", columns.text), ("label", columns.label)):
        if name not in found and (role == "text" or labelled):
            near = nearest(name, found)
            raise Failure(
                "ColumnNotFound",
                f"{where}: no column {name!r} for the {role}; found {shorten(found)}"
                + (f"; did you mean {near!r}? Set" if near else "; set")
                + f" data.sources[].columns.{role}",
            )


def _read_csv(lines: Lines, columns: Columns, labelled: bool, where: str) -> Iterator[Row]:
    csv.field_size_limit(1 << 30)
    file = iter(lines)
    first = next(file, "")
    if not first.strip():
        raise Failure("DataInvalid", f"{where}: the file is empty; the first line must name the columns")
    delimiter = max(_DELIMITERS, key=first.count)
    header = next(csv.reader([first], delimiter=delimiter))
    _check_columns(header, columns, labelled, where)
    text, label = header.index(columns.text), header.index(columns.label) if labelled else -1
    rows = csv.reader(file, delimiter=delimiter, strict=True)
    try:
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise Failure(
                    "DataInvalid",
                    f"{where}, line {rows.line_num + 1}: {len(row)} fields under {len(header)} columns; "
                    "quote "
                    "fields that contain the delimiter",
                )
            yield row[text], row[label] if labelled else None
    except csv.Error as error:
        raise Failure(
            "DataInvalid", f"{where}, line {rows.line_num + 1}: {error}; correct the quotes"
        ) from error


def _read_jsonl(lines: Lines, columns: Columns, labelled: bool, where: str) -> Iterator[Row]:
    wanted, seen, names = _wanted(columns, labelled), set[str](), dict[str, None]()
    count = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise Failure(
                "DataInvalid", f"{where}, line {number}: no JSON ({error}); one object a line"
            ) from error
        if not isinstance(row, dict):
            raise Failure("DataInvalid", f"{where}, line {number}: no JSON object; one object a line")
        count += 1
        if len(seen) < len(wanted):  # a row may leave a column out; a column that no row has is a mistake
            names.update(dict.fromkeys(row))
            seen.update(n for n in wanted if n in row)
            if count == _JSON_PEEK:
                _check_columns(list(names), columns, labelled, where)
        yield row.get(columns.text), row.get(columns.label) if labelled else None
    if count and len(seen) < len(wanted):
        _check_columns(list(names), columns, labelled, where)


def _read_parquet(path: Path, columns: Columns, labelled: bool, where: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_columns(file.schema_arrow.names, columns, labelled, where)
            wanted = _wanted(columns, labelled)
            for batch in file.iter_batches(batch_size=_BATCH, columns=list(dict.fromkeys(wanted))):
                values = [batch.column(name).to_pylist() for name in wanted]
                yield from zip(values[0], values[1] if labelled else [None] * len(values[0]), strict=True)
    except pa.ArrowInvalid as error:
        raise Failure("DataInvalid", f"{where}: no parquet file ({error}); upload it again") from error


def _read_text(lines: Lines, columns: Columns, labelled: bool, where: str) -> Iterator[Row]:
    _check_columns(["text"], columns, labelled, where)
    for line in lines:  # one row a line; blank lines only separate
        if line.strip():
            yield line.rstrip("\r\n"), None
