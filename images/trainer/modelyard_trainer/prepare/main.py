"""The prepare stage from end to end."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from modelyard.api.data import Data
from modelyard.contract.codes import EXIT_OK, RESULT_FILE
from modelyard.contract.layout import REPORT, dataset_dir, hub_dir
from modelyard.contract.report import FailureReport, PrepareResult, RemovedRows
from modelyard.contract.run import ModelInput, RunConfig
from pydantic import ValidationError

from modelyard_trainer.context import Context, read_context
from modelyard_trainer.failure import Failure, shorten, storage_failure
from modelyard_trainer.files import digest_of, new_folder, walk_files, write_atomic, write_json
from modelyard_trainer.preflight.main import Preflight, starting_preflight
from modelyard_trainer.preflight.vocabulary import check_vocabulary
from modelyard_trainer.preflight.warnings import warn_of_model
from modelyard_trainer.prepare.models import FILES, Model, describe_files, fetch_model, verified
from modelyard_trainer.prepare.report import (
    FORMAT_VERSION,
    check_require,
    dataset_digest,
    describe_sources,
    find_leaks,
    read_report,
)  # fmt: skip
from modelyard_trainer.prepare.rows import Reading, Removals
from modelyard_trainer.prepare.shards import write_classification, write_generation
from modelyard_trainer.prepare.sources import Source, find_source, open_source
from modelyard_trainer.prepare.split import SPLITS, split_rows
from modelyard_trainer.prepare.spool import Spool, write_spool
from modelyard_trainer.prepare.steps import NormalizeStep, make_steps, run_steps, text_hash
from modelyard_trainer.prepare.tokenizer import Tokenizer, new_tokenizer_key, train_tokenizer
from modelyard_trainer.prepare.warnings import LIMIT, Suspicions, read_warnings

_log = logging.getLogger("modelyard.prepare")
_BATCH = 4096  # rows
EXIT_BUG = 1
BeginPreflight = Callable[[RunConfig, Path | None], AbstractContextManager[Preflight]]


def main() -> int:
    """Prepares; leaves a PrepareResult in the runtime folder; returns the exit code of the contract."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        ctx = read_context()
    except Failure as failure:
        _log.error("%s", failure)
        return failure.exit_code
    code = EXIT_OK
    try:
        result = prepare(ctx)
    except Failure as failure:
        _log.error("%s", failure)
        result, code = PrepareResult(outcome="failed", failure=failure.report()), failure.exit_code
    except Exception as error:
        _log.exception("prepare failed")
        report = FailureReport(
            reason="PrepareError", message=f"{type(error).__name__}: {error}"[:1000], exit_code=EXIT_BUG
        )
        result, code = PrepareResult(outcome="failed", failure=report), EXIT_BUG
    write_atomic(ctx.runtime / RESULT_FILE, result.model_dump_json(by_alias=True, exclude_none=True))
    return code


def prepare(ctx: Context, begin_preflight: BeginPreflight | None = None) -> PrepareResult:
    """Fetches, cleans, splits and tokenises, and has model and settings looked at meanwhile. Raises Failure."""
    try:
        result = _prepare(ctx, begin_preflight or starting_preflight)
        shutil.rmtree(ctx.run_dir / "prepare", ignore_errors=True)
        return result
    except OSError as error:
        raise storage_failure(error, "preparing the data") from error
    except MemoryError as error:
        raise Failure(
            "HostOutOfMemory", "the pod's memory is too small for the data; raise the profile's limit"
        ) from error


def _prepare(ctx: Context, begin_preflight: BeginPreflight) -> PrepareResult:
    run = ctx.run
    if run.model is None or run.data is None or run.task is None:
        raise Failure(
            "InvalidRunConfig", "the run config has no task, model or data; there is nothing to prepare"
        )
    try:
        data = Data.model_validate(run.data)
    except ValidationError as error:
        raise Failure("InvalidRunConfig", f"the run config's data isn't valid: {error}") from error
    model = fetch_model(ctx, run.model) if run.model.uri else None
    if model:
        _log.info("model %s: %s", run.model.uri, model.digest)
    with begin_preflight(run, model.folder if model else None) as preflight:
        return _prepare_data(ctx, run, run.model, data, model, preflight)


def _prepare_data(
    ctx: Context, run: RunConfig, told: ModelInput, data: Data, model: Model | None, preflight: Preflight
) -> PrepareResult:
    sources = [find_source(ctx, s) for s in data.sources]
    key = model.tokenizer_key if model else new_tokenizer_key(told.config or {})
    digest = dataset_digest(run, data, sources, key)
    model_digest = model.digest if model else digest_of({"config": told.config, "dataset": digest})
    folder, hub = ctx.storage / dataset_dir(digest), ctx.storage / hub_dir(model_digest)
    report = read_report(folder, digest) if verified(hub) else None
    hit = report is not None
    if report is None:
        preflight.finish()  # before hours of work for a model that can't be trained
        _log.info("dataset %s: preparing", digest)
        report = _build(ctx, data, sources, digest, model, hub)
    base = preflight.finish()
    check_vocabulary(base, report)
    removed = [RemovedRows.model_validate(r) for r in report["removed"]]
    check_require(data.require, report["rowsIn"], report["rowsOut"], removed)
    _log.info("dataset %s: %s, %d rows", digest, "found" if hit else "written", report["rowsOut"])
    return PrepareResult(
        outcome="succeeded",
        digest=digest,
        model_digest=model_digest,
        model_revision=model.revision if model else None,
        cache_hit=hit,
        rows_in=report["rowsIn"],
        rows_out=report["rowsOut"],
        removed=removed,
        splits={name: about["rows"] for name, about in report["splits"].items()},
        warnings=[*warn_of_model(base, report["labels"]), *read_warnings(report)][:LIMIT],
    )


def _build(
    ctx: Context, data: Data, sources: list[Source], digest: str, model: Model | None, hub: Path
) -> dict[str, Any]:
    started, run = time.time(), ctx.run
    labelled = run.task == "text-classification"
    tokenizer = Tokenizer.load(model.folder) if model else None
    with new_folder(ctx.storage / dataset_dir(digest), ctx.owner) as folder:
        removals, suspicions = Removals(), Suspicions()
        reading = Reading([open_source(ctx, s) for s in sources], labelled, removals)
        steps = make_steps(data.prepare, removals, tokenizer.count if tokenizer else None)
        rows = folder / "rows.arrow"
        write_spool(rows, run_steps(reading.batches(), steps))
        for name, lines in reading.recoded.items():
            if lines:
                _log.warning("source %s: %d lines are not UTF-8; read as Windows-1252", name, lines)
        removals.write(folder / "removed")
        spool, rows_in = Spool.open(rows), sum(reading.rows.values())
        if not len(spool):
            most = max(removals.listed(), key=lambda r: r.rows, default=None)
            why = f"; {most.step} removed {most.rows} ({most.reason})" if most else ""
            raise Failure("DataInvalid", f"no row is left of {rows_in}{why}; check the sources and the steps")
        check_require(data.require, rows_in, len(spool), removals.listed())
        labels = spool.labels() if labelled else None
        names = sort_labels(set(labels)) if labels else []
        if labelled and len(names) < 2:
            raise Failure(
                "DataInvalid",
                f"classification needs at least 2 classes, the data have only {shorten(names)}; "
                "check data.sources[].columns.label",
            )
        parts = split_rows(len(spool), labels, data.split)
        if tokenizer is None:
            _make_model(ctx, hub, (t for batch in _texts(spool, parts["train"]) for t in batch))
            tokenizer = Tokenizer.load(hub)
        ids, longest = {name: i for i, name in enumerate(names)}, run.training.max_length
        splits = {
            s: write_classification(folder / s, spool, parts[s], tokenizer, longest, ids)
            if labelled
            else write_generation(folder / s, spool, parts[s], tokenizer, longest)
            for s in SPLITS
        }
        _check_blocks(splits)
        leaks = find_leaks(lambda s: {text_hash(t) for batch in _texts(spool, parts[s]) for t in batch})
        if total := sum(leaks.values()):
            parts_of = " and ".join(f"{n} texts of {split}" for split, n in leaks.items() if n)
            suspicions.add(
                "LeakedTexts",
                f"{parts_of} are in the training split too, so metrics flatter the model; add the step "
                "deduplicate to data.prepare",
                total,
            )
        rows.unlink()
        report = {
            "formatVersion": FORMAT_VERSION,
            "digest": digest,
            "task": run.task,
            "maxLength": longest,
            "sources": describe_sources(reading.sources, reading.rows, reading.recoded),
            "rowsIn": rows_in,
            "rowsOut": len(spool),
            "removed": [r.model_dump(by_alias=True) for r in removals.listed()],
            "changed": [{"step": s.name, "rows": s.changed} for s in steps if isinstance(s, NormalizeStep)],
            "labels": names,
            "padTokenId": tokenizer.pad_id,
            "leaks": leaks,
            "warnings": suspicions.dump(),
            "splits": splits,
            "seconds": round(time.time() - started, 2),
        }
        write_json(folder / REPORT, report)  # last: a dataset without a report does not exist
    return report


def _make_model(ctx: Context, hub: Path, texts: Iterator[str]) -> None:
    assert ctx.run.model is not None and ctx.run.task is not None  # noqa: S101 - checked by _prepare
    config = ctx.run.model.config or {}
    with new_folder(hub, ctx.owner) as folder:
        train_tokenizer(texts, config, ctx.run.task, folder)
        files = describe_files(walk_files(folder), folder)
        write_json(folder / FILES, {"origin": "config", "revision": None, "files": files})


def _check_blocks(splits: dict[str, dict[str, Any]]) -> None:
    for name, about in splits.items():
        if about["rows"] and not about["examples"]:
            raise Failure("DataInvalid", f"the {name} split has too little text for a single block; add data")


def _texts(spool: Spool, rows: Any) -> Iterator[list[str]]:
    for start in range(0, len(rows), _BATCH):
        yield spool.texts(rows[start : start + _BATCH])


def sort_labels(labels: set[str]) -> list[str]:
    """Labels in the order of their ids: by number if all are whole numbers, else by text."""
    if all(label.lstrip("-").isdecimal() for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)
