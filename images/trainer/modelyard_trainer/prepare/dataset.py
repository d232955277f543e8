"""From sources to a dataset: read, cleaned, looked over, split, tokenised, and described in its report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from modelyard.api.data import Data
from modelyard.contract.layout import REPORT, dataset_dir
from modelyard_models.failure import Failure
from modelyard_models.files import new_folder, write_json

from modelyard_trainer.context import Context
from modelyard_trainer.prepare.classes import check_classes, sort_labels
from modelyard_trainer.prepare.cleaned import Cleaned
from modelyard_trainer.prepare.columns import tell_columns
from modelyard_trainer.prepare.overlaps import Overlaps, find_overlaps, sample_pairs
from modelyard_trainer.prepare.report import (
    FORMAT_VERSION,
    check_contradictions,
    check_leaks,
    check_require,
    check_rows,
    count_leaks,
    count_rows,
    describe_sources,
)
from modelyard_trainer.prepare.rows import Reading, Removals
from modelyard_trainer.prepare.sources import Source, open_source
from modelyard_trainer.prepare.split import split_rows
from modelyard_trainer.prepare.spool import Spool, write_spool
from modelyard_trainer.prepare.steps import CONTRADICTION, NormalizeStep, make_steps, run_steps
from modelyard_trainer.prepare.tokenizer import Tokenizer
from modelyard_trainer.prepare.warnings import SAMPLES, Suspicions
from modelyard_trainer.tasks import Task, find_task

_BATCH = 4096  # rows
_SPOOL = "rows.arrow"
MakeTokenizer = Callable[[Iterator[str]], Tokenizer]


def build_dataset(
    ctx: Context,
    data: Data,
    sources: list[Source],
    digest: str,
    tokenizer: Tokenizer | None,
    make_tokenizer: MakeTokenizer,
) -> dict[str, Any]:
    """Writes the dataset and returns its report. Without a `tokenizer`, one is made of the training split.

    Raises Failure; then nothing is left of it.
    """
    started, task = time.time(), find_task(ctx.run.task)
    with new_folder(ctx.storage / dataset_dir(digest), ctx.owner) as folder:
        rows = _read(ctx, task, data, sources, folder, tokenizer)
        texts = rows.spool
        overlaps = find_overlaps(texts)
        contradictions = _check_contradictions(rows, overlaps, data)
        parts = split_rows(len(texts), rows.labels, rows.names, data.split)
        leaks = _check_leaks(rows, overlaps, parts, data)
        if tokenizer is None:
            tokenizer = make_tokenizer(t for batch in _texts(texts, parts["train"]) for t in batch)
        splits = task.write_splits(folder, rows, parts, tokenizer, ctx.run.training.max_length)
        (folder / _SPOOL).unlink()
        reading = rows.reading
        report = {
            "formatVersion": FORMAT_VERSION,
            "digest": digest,
            "task": ctx.run.task,
            "maxLength": ctx.run.training.max_length,
            "sources": describe_sources(reading.sources, reading.rows, reading.recoded),
            "rowsIn": rows.rows_in,
            "rowsOut": len(texts),
            "removed": [r.model_dump(by_alias=True) for r in rows.removals.listed()],
            "changed": rows.changed,
            "labels": rows.names,
            "padTokenId": tokenizer.pad_id,
            "leaks": leaks,
            "contradictions": contradictions,
            "warnings": rows.suspicions.dump(),
            "splits": splits,
            "seconds": round(time.time() - started, 2),
        }
        check_require(data.require, report)
        write_json(folder / REPORT, report)  # last: a dataset without a report does not exist
    return report


def _read(
    ctx: Context, task: Task, data: Data, sources: list[Source], folder: Path, tokenizer: Tokenizer | None
) -> Cleaned:
    removals, suspicions = Removals(), Suspicions()
    reading = Reading([open_source(ctx, s) for s in sources], task.labelled, removals)
    steps = make_steps(data.prepare, removals, tokenizer.count if tokenizer else None)
    write_spool(folder / _SPOOL, run_steps(reading.batches(), steps))
    removals.write(folder / "removed")
    changed = [{"step": s.name, "rows": s.changed} for s in steps if isinstance(s, NormalizeStep)]
    rows = Cleaned(Spool.open(folder / _SPOOL), reading, removals, suspicions, changed)
    if not len(rows.spool):
        most = max(removals.listed(), key=lambda r: r.rows, default=None)
        why = f"; {most.step} removed {most.rows} ({most.reason})" if most else ""
        raise Failure(
            "DataInvalid", f"no row is left of {rows.rows_in}{why}; check the sources and the steps"
        )
    check_rows(data.require, rows.rows_in, len(rows.spool), removals.listed())
    _tell_reading(reading, suspicions)
    if task.labelled:
        found, ids = rows.spool.labels()
        rows.names = sort_labels(found)
        place = {name: i for i, name in enumerate(rows.names)}
        rows.labels = np.asarray([place[name] for name in found], np.int32)[ids]
        check_classes(rows.names, np.bincount(rows.labels, minlength=len(found)).tolist(), suspicions)
    return rows


def _tell_reading(reading: Reading, suspicions: Suspicions) -> None:
    tell_columns(reading.columns, suspicions)
    recoded = {name: lines for name, lines in reading.recoded.items() if lines}
    if recoded:
        lines = "1 line was" if sum(recoded.values()) == 1 else f"{sum(recoded.values())} lines were"
        suspicions.add(
            "NotUtf8",
            f"{lines} not UTF-8 and read as Windows-1252 (source {', '.join(recoded)}); look at "
            "them, or convert the files with iconv -t UTF-8",
            sum(recoded.values()),
            [{"source": name, "lines": count} for name, count in recoded.items()],
        )
    several = {s.spec.name: sorted({f.format for f in s.files}) for s in reading.sources}
    several = {name: formats for name, formats in several.items() if len(formats) > 1}
    if several:
        shown = "; ".join(f"{name}: {', '.join(formats)}" for name, formats in several.items())
        suspicions.add(
            "SeveralFormats",
            f"files of several formats were read as one source ({shown}); if some are not data, set "
            "data.sources[].format, or name the files by a glob",
            len(several),
            [
                {"source": s.spec.name, "file": f.name, "format": f.format}
                for s in reading.sources
                if s.spec.name in several
                for f in s.files
            ],
        )


def _check_contradictions(rows: Cleaned, overlaps: Overlaps, data: Data) -> int:
    """How many rows stand under another label than the first row with their text: removed ones, and others."""
    removed = [key for key in rows.removals.counts if key[1] == CONTRADICTION]
    count = sum(rows.removals.counts[key] for key in removed)
    samples = [json.loads(line) for key in removed for line in rows.removals.samples[key][:SAMPLES]]
    if rows.labelled:
        left = overlaps.contradictions(rows.labels)
        count += len(left)
        samples += sample_pairs(rows.spool, left, overlaps, labelled=True)
    if count:
        rows.suspicions.add(
            "Contradictions",
            f"{count_rows(count)} a text that stands under another label before"
            + (f", and {'was' if count == 1 else 'were'} removed" if removed else "")
            + "; correct the labels in the source",
            count,
            samples,
        )
    check_contradictions(data.require, count, samples)
    return count


def _check_leaks(rows: Cleaned, overlaps: Overlaps, parts: dict[str, Any], data: Data) -> dict[str, int]:
    found = overlaps.leaks(parts)
    counts = {split: len(leaked) for split, leaked in found.items()}
    samples = [
        {"split": split} | sample
        for split, leaked in found.items()
        for sample in sample_pairs(rows.spool, leaked, overlaps, rows.labelled)
    ]
    if any(counts.values()):
        rows.suspicions.add(
            "LeakedTexts",
            f"{count_leaks(counts)} a text that is in a split before it too, so that metrics flatter the "
            "model; add the step deduplicate to data.prepare",
            sum(counts.values()),
            samples,
        )
    check_leaks(data.require, counts, samples)
    return counts


def _texts(spool: Spool, rows: Any) -> Iterator[list[str]]:
    for start in range(0, len(rows), _BATCH):
        yield spool.texts(rows[start : start + _BATCH])
