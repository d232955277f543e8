"""Parquet files, column by column."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from modelyard_models.failure import Failure, shorten

from modelyard_trainer.prepare.formats.columns import Mark, Row, Wanted

_BATCH = 4096  # rows read at once
Convert = Callable[[Any], Any]


def read(path: Path, wanted: Wanted) -> Iterator[Row]:
    """Yields the rows. Raises Failure (DataInvalid, ColumnNotFound); OSError if the file itself can't be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 0
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            wanted.check(schema.names)
            converts = [_make_converter(schema, name, wanted) for name in wanted.names]
            for batch in file.iter_batches(batch_size=_BATCH, columns=list(dict.fromkeys(wanted.names))):
                columns = [
                    list(map(convert, batch.column(name).to_pylist()))
                    for name, convert in zip(wanted.names, converts, strict=True)
                ]
                yield from zip(
                    columns[0], columns[-1] if wanted.labelled else [None] * len(batch), strict=True
                )
                count += len(batch)
    except Failure:
        raise
    except pa.ArrowMemoryError as error:
        raise wanted.fail(
            f"reading on after row {count} takes more memory than there is ({error}); the file is damaged, or "
            "its row groups are too large: write it again with smaller ones"
        ) from error
    except Exception as error:
        # Arrow's own errors of a damaged file are OSErrors too, but without the system's number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        said = str(error).split("\n", 1)[0]
        raise wanted.fail(
            f"the parquet file can't be read after row {count} ({said}); it is damaged or no parquet file: "
            "write or upload it again"
        ) from error


def _make_converter(schema: Any, name: str, wanted: Wanted) -> Convert:
    kind = str(schema.field(name).type)
    names = _class_names(schema.metadata, name)
    if names is not None:
        return _Names(names, name, wanted)
    if kind in ("float", "halffloat"):
        narrow = np.float32 if kind == "float" else np.float16
        # The shortest text that names the number, not that of its neighbour in double precision.
        return lambda value: None if value is None else float(str(narrow(value)))
    return lambda value: value


def _class_names(metadata: dict[bytes, bytes] | None, name: str) -> list[str] | None:
    """Names of the classes by index, where Hugging Face's datasets wrote them."""
    try:
        about = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        feature = about["info"]["features"][name]
        names = feature["names"] if feature["_type"] == "ClassLabel" else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return names if isinstance(names, list) and all(isinstance(n, str) for n in names) else None


class _Names:
    """The name of a class for its index; -1 is no label, by the convention of datasets."""

    def __init__(self, names: list[str], column: str, wanted: Wanted) -> None:
        self._names, self._column, self._wanted = names, column, wanted

    def __call__(self, value: Any) -> Any:
        if not isinstance(value, int) or isinstance(value, bool):
            return value
        if value == -1:
            return Mark.NO_LABEL
        if 0 <= value < len(self._names):
            return self._names[value]
        raise self._wanted.fail(
            f"column {self._column!r} holds the class {value}, but the file names {len(self._names)} classes "
            f"({shorten(self._names)}); correct the label, or the names in the file's metadata"
        )
