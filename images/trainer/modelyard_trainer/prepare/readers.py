"""Rows out of files: csv, jsonl, parquet and text; all but parquet also gzipped. One row at a time."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from modelyard.api.trainingjob import Columns, DataSource

from modelyard_trainer.failure import Failure, nearest, shorten
from modelyard_trainer.prepare.sources import SourceFile

_BATCH = 4096  # rows of a parquet file read at once
_DELIMITERS = (",", ";", "\t")
_JSON_PEEK = 100  # rows searched for a column's name before it is said to be missing

Row = tuple[Any, Any]  # text and label, as the file has them; None for nothing


def read_rows(spec: DataSource, file: SourceFile, labelled: bool) -> Iterator[Row]:
    """Yields the rows of one file. Raises Failure (ColumnNotFound, DataInvalid) naming source and line."""
    assert file.path is not None  # noqa: S101 - opened by sources.open_source
    reader = {"csv": _read_csv, "jsonl": _read_jsonl, "parquet": _read_parquet, "text": _read_text}[
        file.format
    ]
    where = f"source {spec.name}, {file.name}"
    try:
        yield from reader(file.path, spec.columns, labelled, where)
    except UnicodeDecodeError as error:
        raise Failure(
            "DataInvalid",
            f"{where}: not UTF-8 ({error.reason} at byte {error.start}); convert it with iconv -t UTF-8",
        ) from error
    except (gzip.BadGzipFile, EOFError) as error:
        raise Failure(
            "DataInvalid", f"{where}: the gzip file is damaged ({error}); upload it again"
        ) from error


def _open_text(path: Path, newline: str | None = None) -> IO[str]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    raw: Any = gzip.open(path, "rb") if packed else path.open("rb")  # noqa: SIM115 - the caller's
    return io.TextIOWrapper(raw, encoding="utf-8-sig", newline=newline)


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


def _read_csv(path: Path, columns: Columns, labelled: bool, where: str) -> Iterator[Row]:
    csv.field_size_limit(1 << 30)
    with _open_text(path, newline="") as file:
        first = file.readline()
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
                        f"{where}, line {rows.line_num + 1}: {len(row)} fields under {len(header)} "
                        "columns; quote "
                        "fields that contain the delimiter",
                    )
                yield row[text], row[label] if labelled else None
        except csv.Error as error:
            raise Failure(
                "DataInvalid", f"{where}, line {rows.line_num + 1}: {error}; correct the quotes"
            ) from error


def _read_jsonl(path: Path, columns: Columns, labelled: bool, where: str) -> Iterator[Row]:
    wanted, seen, names = _wanted(columns, labelled), set[str](), dict[str, None]()
    with _open_text(path) as file:
        count = 0
        for number, line in enumerate(file, 1):
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


def _read_text(path: Path, columns: Columns, labelled: bool, where: str) -> Iterator[Row]:
    _check_columns(["text"], columns, labelled, where)
    with _open_text(path) as file:
        for line in file:  # one row a line; blank lines only separate
            if line.strip():
                yield line.rstrip("\n"), None
