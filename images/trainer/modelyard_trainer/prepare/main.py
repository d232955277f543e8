"""The prepare stage from end to end."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from modelyard.api.data import Data
from modelyard.contract.codes import EXIT_OK, RESULT_FILE
from modelyard.contract.layout import dataset_dir, hub_dir
from modelyard.contract.report import FailureReport, PrepareResult, RemovedRows
from modelyard.contract.run import ModelInput, RunConfig
from modelyard_models.failure import Failure, source_failure, storage_failure
from modelyard_models.fetch import FILES, Model, describe_files, fetch_model, verified
from modelyard_models.files import digest_of, new_folder, walk_files, write_atomic, write_json
from pydantic import ValidationError

from modelyard_trainer.context import Context, read_context, read_runtime
from modelyard_trainer.preflight.main import Preflight, starting_preflight
from modelyard_trainer.preflight.vocabulary import check_ends, check_vocabulary
from modelyard_trainer.preflight.warnings import warn_of_model
from modelyard_trainer.prepare.dataset import build_dataset
from modelyard_trainer.prepare.report import check_require, dataset_digest, read_report
from modelyard_trainer.prepare.sources import find_source
from modelyard_trainer.prepare.tokenizer import Tokenizer, new_tokenizer_key, train_tokenizer
from modelyard_trainer.prepare.warnings import LIMIT, read_warnings
from modelyard_trainer.tasks import find_task

_log = logging.getLogger("modelyard.prepare")
EXIT_BUG = 1
BeginPreflight = Callable[[RunConfig, Path | None], AbstractContextManager[Preflight]]


def main() -> int:
    """Prepares; leaves a PrepareResult in the runtime folder; returns the exit code of the contract."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        ctx = read_context()
    except Failure as failure:
        return _leave(read_runtime(), failure)
    code = EXIT_OK
    try:
        result = prepare(ctx)
    except Failure as failure:
        return _leave(ctx.runtime, failure)
    except Exception as error:
        _log.exception("prepare failed")
        report = FailureReport(
            reason="PrepareError", message=f"{type(error).__name__}: {error}"[:1000], exit_code=EXIT_BUG
        )
        result, code = PrepareResult(outcome="failed", failure=report), EXIT_BUG
    _write(ctx.runtime, result)
    return code


def _leave(runtime: Path, failure: Failure) -> int:
    _log.error("%s", failure)
    _write(runtime, PrepareResult(outcome="failed", failure=failure.report()))
    return failure.exit_code


def _write(runtime: Path, result: PrepareResult) -> None:
    write_atomic(runtime / RESULT_FILE, result.model_dump_json(by_alias=True, exclude_none=True))


def prepare(ctx: Context, begin_preflight: BeginPreflight | None = None) -> PrepareResult:
    """Fetches, cleans, splits and tokenises, and has model and settings looked at meanwhile. Raises Failure."""
    try:
        result = _prepare(ctx, begin_preflight or starting_preflight)
        shutil.rmtree(ctx.scratch, ignore_errors=True)
        return result
    except OSError as error:
        failure = _explain(error, ctx)
        if failure is None:
            raise
        raise failure from error
    except MemoryError as error:
        raise Failure(
            "HostOutOfMemory", "the pod's memory is too small for the data; raise the profile's limit"
        ) from error


def _explain(error: OSError, ctx: Context) -> Failure | None:
    """Whose trouble it is: a source's, the base model's, our storage's, or (None) no trouble with files at all.

    Libraries raise OSErrors of their own, without the system's number, for much that has to do with no disk.
    """
    if error.errno is None:
        return None
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
    if path is None or not path.is_relative_to(ctx.sources):
        return storage_failure(error, "preparing the data")
    name = path.relative_to(ctx.sources).as_posix()
    model = ctx.run.model.uri if ctx.run.model else None
    # Mounted below the scheme and the claim, as the URI has it.
    of_model = model is not None and f"{name}/".startswith(f"{model.replace('://', '/', 1).rstrip('/')}/")
    return source_failure(error, name, "Model" if of_model else "Source")


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
    if not run.builtin:  # what the user's own program makes of model and settings is its business
        return _prepare_data(ctx, run.model, data, model, None)
    with begin_preflight(run, model.folder if model else None) as preflight:
        return _prepare_data(ctx, run.model, data, model, preflight)


def _prepare_data(
    ctx: Context, told: ModelInput, data: Data, model: Model | None, preflight: Preflight | None
) -> PrepareResult:
    sources = [find_source(ctx, s) for s in data.sources]
    key = model.tokenizer_key if model else new_tokenizer_key(told.config or {})
    digest = dataset_digest(ctx.run, data, sources, key)
    model_digest = model.digest if model else digest_of({"config": told.config, "dataset": digest})
    folder, hub = ctx.storage / dataset_dir(digest), ctx.storage / hub_dir(model_digest)
    report = read_report(folder, digest) if verified(hub) else None
    hit = report is not None
    if report is None:
        if preflight is not None:
            preflight.finish()  # before hours of work for a model that can't be trained
        _log.info("dataset %s: preparing", digest)
        tokenizer = Tokenizer.load(model.folder) if model else None
        report = build_dataset(ctx, data, sources, digest, tokenizer, partial(_make_model, ctx, hub))
    warnings = read_warnings(report)
    if preflight is not None:
        base = preflight.finish()
        check_vocabulary(base, report)
        check_ends(base, report)
        warnings = [*warn_of_model(base, report["labels"]), *warnings]
    check_require(data.require, report)
    _log.info("dataset %s: %s, %d rows", digest, "found" if hit else "written", report["rowsOut"])
    return PrepareResult(
        outcome="succeeded",
        digest=digest,
        model_digest=model_digest,
        model_revision=model.revision if model else None,
        cache_hit=hit,
        rows_in=report["rowsIn"],
        rows_out=report["rowsOut"],
        removed=[RemovedRows.model_validate(r) for r in report["removed"]],
        splits={name: about["rows"] for name, about in report["splits"].items()},
        warnings=warnings[:LIMIT],
    )


def _make_model(ctx: Context, hub: Path, texts: Iterator[str]) -> Tokenizer:
    assert ctx.run.model is not None and ctx.run.task is not None  # noqa: S101 - checked by _prepare
    config = ctx.run.model.config or {}
    with new_folder(hub, ctx.owner) as folder:
        train_tokenizer(texts, config, folder, frames=find_task(ctx.run.task).frames)
        files = describe_files(walk_files(folder), folder)
        write_json(folder / FILES, {"origin": "config", "revision": None, "files": files})
    return Tokenizer.load(hub)
