"""Reads bytes as a source's file, for the tests of the formats."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from modelyard.api.data import DataSource
from modelyard_trainer.prepare.readers import FileReader
from modelyard_trainer.prepare.sources import SourceFile

ENDINGS = {"csv": "csv", "json": "json", "jsonl": "jsonl", "parquet": "parquet", "text": "txt"}


def make_reader(path: Path, kind: str, *, labelled: bool = True, **spec: Any) -> FileReader:
    """A reader of one file."""
    source = DataSource.model_validate({"name": "r", "uri": f"pvc://data/{path.name}", "format": kind} | spec)
    return FileReader(source, SourceFile(path.name, kind, "", path.stat().st_size, path), labelled)


def read(folder: Path, content: bytes | str, kind: str, *, zipped: bool = False, **options: Any) -> list[Any]:
    """The rows of a file with this content."""
    data = content.encode() if isinstance(content, str) else content
    path = folder / f"rows.{ENDINGS[kind]}"
    path.write_bytes(gzip.compress(data) if zipped else data)
    return list(make_reader(path, kind, **options).rows())
