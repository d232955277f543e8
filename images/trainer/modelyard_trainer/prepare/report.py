"""A dataset's report: what went in, what was removed and why, what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelyard.api.data import Data, Require
from modelyard.contract.layout import REPORT
from modelyard.contract.report import RemovedRows
from modelyard.contract.run import RunConfig
from modelyard_models.failure import Failure
from modelyard_models.files import digest_of, read_json

from modelyard_trainer.prepare.sources import Source

FORMAT_VERSION = (
    4  # of the files and of the code's results: raise it whenever the same inputs give other files
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


def check_require(require: Require, report: Mapping[str, Any]) -> None:
    """Raises Failure (RequirementNotMet) for the first demand that a dataset misses, by its report."""
    removed = [RemovedRows.model_validate(r) for r in report["removed"]]
    check_rows(require, report["rowsIn"], report["rowsOut"], removed)
    samples = {w["reason"]: w["samples"] for w in report["warnings"]}
    check_contradictions(require, report["contradictions"], samples.get("Contradictions", ()))
    check_leaks(require, report["leaks"], samples.get("LeakedTexts", ()))
    cut = sum(about.get("truncated", 0) for about in report["splits"].values())
    fraction = cut / report["rowsOut"] if report["rowsOut"] else 0.0
    if require.max_truncated_fraction is not None and fraction > require.max_truncated_fraction:
        raise Failure(
            "RequirementNotMet",
            f"{cut} of {report['rowsOut']} rows ({fraction:.3f}) are longer than training.maxLength "
            f"({report['maxLength']} tokens), data.require.maxTruncatedFraction allows "
            f"{require.max_truncated_fraction}; raise maxLength, or remove long rows with filter.maxTokens",
        )


def check_rows(require: Require, rows_in: int, rows_out: int, removed: Sequence[RemovedRows]) -> None:
    """Raises Failure (RequirementNotMet) with the step that removed most."""
    most = max(removed, key=lambda r: r.rows, default=None)
    hint = f"; most were removed by {most.step} ({most.reason}: {most.rows})" if most else ""
    if require.min_rows is not None and rows_out < require.min_rows:
        raise Failure(
            "RequirementNotMet",
            f"{rows_out} of {rows_in} rows are left, data.require.minRows wants {require.min_rows}{hint}; "
            "see removed/ in the storage, add data or change the steps",
        )
    fraction = (rows_in - rows_out) / rows_in if rows_in else 0.0
    if require.max_removed_fraction is not None and fraction > require.max_removed_fraction:
        raise Failure(
            "RequirementNotMet",
            f"{fraction:.3f} of {rows_in} rows were removed, data.require.maxRemovedFraction allows "
            f"{require.max_removed_fraction}{hint}; change the steps or the data",
        )


def check_contradictions(require: Require, count: int, samples: Sequence[Mapping[str, Any]] = ()) -> None:
    """Raises Failure (RequirementNotMet) if texts stand under two labels and must not."""
    if require.no_contradictions and count:
        raise Failure(
            "RequirementNotMet",
            f"{count_rows(count)} a text that stands under another label too{_examples(samples)}, "
            "data.require.noContradictions allows none; correct their labels in the source",
        )


def check_leaks(
    require: Require, leaks: Mapping[str, int], samples: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Raises Failure (RequirementNotMet) if texts are in two splits and must not."""
    if require.no_leakage and any(leaks.values()):
        raise Failure(
            "RequirementNotMet",
            f"{count_leaks(leaks)} a text that is in an earlier split too{_examples(samples)}, data.require.noLeakage "
            "allows none; add the step deduplicate to data.prepare",
        )


def count_leaks(leaks: Mapping[str, int]) -> str:
    """`3 rows of validation and 1 of test have`."""
    found = [(split, count) for split, count in leaks.items() if count]
    first = "row" if found[0][1] == 1 else "rows"
    texts = [f"{count}{f' {first}' if i == 0 else ''} of {split}" for i, (split, count) in enumerate(found)]
    return f"{' and '.join(texts)} {'has' if sum(leaks.values()) == 1 else 'have'}"


def count_rows(count: int) -> str:
    """`1 row has`, `3 rows have`."""
    return "1 row has" if count == 1 else f"{count} rows have"


def _examples(samples: Sequence[Mapping[str, Any]]) -> str:
    shown = [
        f"row {s['row']} of source {s['source']} like row {s['first']['row']} of {s['first']['source']}"
        for s in samples[:3]
    ]
    return f" ({', '.join(shown)})" if shown else ""
