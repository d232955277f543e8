"""A build from end to end."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelyard.contract.build import BuildResult, Method, VariantReport
from modelyard_models.failure import Failure, source_failure, storage_failure
from modelyard_models.files import write_atomic

from modelyard_build.bench import Bench, Subject
from modelyard_build.child import run_child
from modelyard_build.gate import choose, judge
from modelyard_build.measuring.plan import Figures
from modelyard_build.model import Model, find_model, find_task, read_task
from modelyard_build.package import Package, held
from modelyard_build.rows import find_rows
from modelyard_build.settings import Settings
from modelyard_build.tasks import TASKS, Answers
from modelyard_build.variants import VARIANTS
from modelyard_build.variants.variant import Plan

log = logging.getLogger("modelyard.build")


def build(settings: Settings) -> BuildResult:
    """Makes the package, or finds it. A result that failed has the figures of what was measured. Raises Failure."""
    with _explained(settings), held(settings.package):
        _clear_locks(settings.scratch)
        try:
            with _explained(settings):
                result = _find(settings) or _build(settings, find_model(settings))
        except Failure as failure:
            if not failure.temporary:
                _forget(settings)
            raise
        _forget(settings)
        return result


def _forget(settings: Settings) -> None:
    """Deletes what was downloaded, which only another try at the same build has a use for."""
    shutil.rmtree(settings.scratch, ignore_errors=True)


def _clear_locks(scratch: Path) -> None:
    """Deletes what a killed build's download has left locked: on storage without locks, files stand for them."""
    for path in scratch.rglob("*.lock"):
        path.unlink(missing_ok=True)


def _find(settings: Settings) -> BuildResult | None:
    """The package of a model whose digest is known, without a look at its bytes."""
    config = settings.config
    location = settings.locate(config.uri)
    if config.digest is None or location.scheme != "pvc":
        return None
    folder, own = settings.find_claimed(location)
    return _read(Package(settings, config.digest), Model(folder, config.digest)) if own else None


def _read(package: Package, model: Model) -> BuildResult | None:
    found = package.read(model.folder)
    if found is not None:
        log.info("the package is there")
    return found and found.model_copy(update={"cache_hit": True})


def _build(settings: Settings, model: Model) -> BuildResult:
    package = Package(settings, model.digest)
    if found := _read(package, model):
        return found
    if not settings.config.measure:
        return _describe(package, model, settings.config.task or read_task(model.folder))
    task = find_task(settings.config.task, model.folder, settings.config.uri)
    log.info("model %s, for %s", model.digest, task)
    with tempfile.TemporaryDirectory(prefix="build-") as temp:
        result = Builder(settings, package, model, task, Path(temp)).run()
    if result.failure is None:
        package.publish(result, model.folder)
    return result


def _describe(package: Package, model: Model, task: str | None) -> BuildResult:
    """Of a model that another server serves: its files are known to be safe and whole, and nothing of what it does."""
    folder = package.name(model.folder)
    whole = VariantReport(
        name="none", folder=folder, bytes=package.measure_bytes(model.folder), agreement=1.0, passed=True
    )
    result = BuildResult(
        outcome="succeeded",
        digest=model.digest,
        revision=model.revision,
        task=task,
        chosen="none",
        variants=[whole],
    )
    package.publish(result, model.folder)
    return result


class Builder:
    """Makes, measures and judges the variants of one model."""

    def __init__(self, settings: Settings, package: Package, model: Model, task: str, temp: Path) -> None:
        self._config, self._package, self._model, self._task = settings.config, package, model, task
        self._temp, self._rows = temp, find_rows(settings)
        self._bench = Bench(settings, task, self._rows, temp)

    def run(self) -> BuildResult:
        """Raises Failure where the model itself can't be served, and for what may pass by itself."""
        figures, answers = self._measure("none", self._model.folder, None)
        base = self._report("none", self._model.folder, figures, answers, answers)
        base = base.model_copy(update={"passed": True})
        reports = [base]
        wanted = {*self._config.methods, self._config.choose} & set(VARIANTS)
        for method in VARIANTS:
            if method in wanted:
                reports.append(self._try(method, base, figures.rows, answers))
                log.info("%s", reports[-1])
        return self._conclude(reports, figures.max_length)

    def _try(self, method: Method, base: VariantReport, rows: int, answers: Answers) -> VariantReport:
        """A variant's report, whether or not it could be made."""
        variant, folder = VARIANTS[method], self._model.folder
        if variant.is_stored(folder):
            return base.model_copy(update={"name": method, "reason": "the model is stored so already"})
        if reason := variant.refuse(self._task):
            return VariantReport(name=method, passed=False, reason=reason)
        try:
            with self._package.counting_deaths(method):
                made = self._package.make(method, lambda temp: self._make(method, temp))
                figures, found = self._measure(method, made, rows)
        except Failure as failure:
            # What nobody has foreseen is tried again by servers; the next build would meet it too.
            if failure.temporary and failure.reason != "StartFailed":
                raise
            return VariantReport(name=method, passed=False, reason=failure.message)
        report = self._report(method, made, figures, found, answers)
        reason = judge(self._config.gate, base, report)
        return report.model_copy(update={"passed": reason is None, "reason": reason})

    def _make(self, method: Method, target: Path) -> None:
        plan = Plan(method=method, task=self._task, folder=self._model.folder, target=target)
        path = self._temp / f"{method}.json"
        write_atomic(path, plan.model_dump_json(by_alias=True))
        log.info("%s: making it", method)
        # What libraries write aside may be as large as the model.
        with tempfile.TemporaryDirectory(dir=target) as aside:
            run_child("modelyard_build.variants", path, self._temp / f"{method}-made", {"TMPDIR": aside})

    def _measure(self, method: Method, folder: Path, rows: int | None) -> tuple[Figures, Answers]:
        variant = VARIANTS.get(method)
        reference = self._package.find_reference(method, folder)
        subject = Subject(
            method=method,
            runtime=variant.runtime if variant else "torch",
            folder=self._package.name(folder),
            reference=None if reference.parent == folder else reference,
        )
        return self._bench.measure(subject, rows)

    def _report(
        self, method: Method, folder: Path, figures: Figures, answers: Answers, base: Answers
    ) -> VariantReport:
        metrics, agreement = TASKS[self._task].compare(answers, base, self._rows)
        variant = VARIANTS.get(method)
        return VariantReport(
            name=method,
            runtime=variant.runtime if variant else "torch",
            folder=self._package.name(folder),
            bytes=self._package.measure_bytes(folder),
            load_seconds=figures.load_seconds,
            latency_milliseconds=figures.latency_milliseconds,
            requests_per_second=figures.requests_per_second,
            concurrency=figures.concurrency,
            metrics=metrics,
            agreement=agreement,
        )

    def _conclude(self, reports: list[VariantReport], max_length: int) -> BuildResult:
        wanted = self._config.choose
        chosen = choose(reports) if wanted == "auto" else next(r for r in reports if r.name == wanted)
        result = BuildResult(
            outcome="succeeded",
            digest=self._model.digest,
            revision=self._model.revision,
            task=self._task,
            max_length=max_length,
            variants=reports,
        )
        assert chosen is not None  # noqa: S101 - the model itself always passes
        if not chosen.passed:
            failure = _refuse(chosen)
            log.error("%s", failure)
            return result.model_copy(update={"outcome": "failed", "failure": failure.report()})
        folder = self._package.storage / str(chosen.folder)
        # A variant that is the model itself answers as it does.
        method = "none" if folder == self._model.folder else chosen.name
        reference = self._package.name(self._package.find_reference(method, folder))
        told = {"chosen": chosen.name, "reference": reference, "variants": _leave_out(reports, chosen.name)}
        return result.model_copy(update=told)


def _leave_out(reports: list[VariantReport], chosen: Method) -> list[VariantReport]:
    """Without the folders of variants that nobody serves, which aren't kept."""
    kept = ("none", chosen)
    return [r if r.name in kept else r.model_copy(update={"folder": None}) for r in reports]


def _refuse(variant: VariantReport) -> Failure:
    if variant.folder is None:
        return Failure(
            "CompressionFailed",
            f"{variant.name} can't be made: {variant.reason}; choose another compression.method, or auto",
        )
    return Failure(
        "CompressionGateFailed",
        f"{variant.name} is not served: {variant.reason}; choose another compression.method, auto, or a wider gate",
    )


@contextmanager
def _explained(settings: Settings) -> Iterator[None]:
    """Says whose trouble an error is: the model's source, or our storage's."""
    try:
        yield
    except OSError as error:
        path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
        if path is not None and path.is_relative_to(settings.sources):
            raise source_failure(error, path.relative_to(settings.sources).as_posix(), "Model") from error
        raise storage_failure(error, "building the model") from error
