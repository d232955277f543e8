"""A dataset's report: what went in, what was removed and why, what came out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard.api.data import Data, Require
from modelyard.contract.layout import REPORT
from modelyard.contract.report import RemovedRows
from modelyard.contract.run import RunConfig

from modelyard_trainer.failure import Failure
from modelyard_trainer.files import digest_of, read_json
from modelyard_trainer.prepare.sources import Source

FORMAT_VERSION = (
    2  # of the files and of the code's results: raise it whenever the same inputs give other files
)


def dataset_digest(run: RunConfig, data: Data, sources: list[Source], tokenizer_key: str) -> str:
    """Digest of everything that decides the dataset's contents, and of nothing else."""
    return digest_of(
        {
            "format": FORMAT_VERSION,
            "task": run.task,
            "maxLength": run.training.max_length,
            "tokenizer": tokenizer_key,
            "sources": [s.identity() for s in sources],
            "prepare": [s.dump() for s in data.prepare],
            "split": data.split.dump(),
        }
    )


def read_report(folder: Path, digest: str) -> dict[str, Any] | None:
    """The report of a dataset whose files are all there (by their sizes), else None."""
    report = read_json(folder / REPORT)
    if not isinstance(report, dict) or report.get("digest") != digest:
        return None
    try:
        for split, about in report["splits"].items():
            for file in about["files"]:
                if (folder / split / file["path"]).stat().st_size != file["bytes"]:
                    return None
    except FileNotFoundError:
        return None
    return report


def describe_sources(
    sources: list[Source], rows: dict[str, int], recoded: dict[str, int]
) -> list[dict[str, Any]]:
    """Sources with the versions of their files."""
    return [
        {
            "name": s.spec.name,
            "uri": s.spec.uri,
            "rows": rows[s.spec.name],
            "recodedLines": recoded[s.spec.name],
            "files": [
                {"name": f.name, "format": f.format, "bytes": f.bytes, "sha256": f.sha256} for f in s.files
            ],
        }
        for s in sources
    ]


def find_leaks(hashes: Callable[[str], set[bytes]]) -> dict[str, int]:
    """How many texts of validation and test are also in the training split."""
    train = hashes("train")
    return {split: len(hashes(split) & train) for split in ("validation", "test")}


def check_require(require: Require, rows_in: int, rows_out: int, removed: list[RemovedRows]) -> None:
    """Raises Failure (RequirementNotMet) with the step that removed most."""
    most = max(removed, key=lambda r: r.rows, default=None)
    hint = f"; most were removed by {most.step} ({most.reason}: {most.rows})" if most else ""
    if require.min_rows is not None and rows_out < require.min_rows:
        raise Failure(
            "RequirementNotMet",
            f"{rows_out} of {rows_in} rows are left, data.require.minRows wants {require.min_rows}{hint}; "
            "see removed/ "
            "in the storage, add data or change the steps",
        )
    fraction = (rows_in - rows_out) / rows_in if rows_in else 0.0
    if require.max_removed_fraction is not None and fraction > require.max_removed_fraction:
        raise Failure(
            "RequirementNotMet",
            f"{fraction:.3f} of {rows_in} rows were removed, data.require.maxRemovedFraction allows "
            f"{require.max_removed_fraction}{hint}; change the steps or the data",
        )
