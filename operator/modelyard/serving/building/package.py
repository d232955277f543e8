"""What a build has left, as the status keeps it: all that servers need to know of their model."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.api.deploymentstatus import CompressionStatus, ServedModelStatus, VariantStatus
from modelyard.contract.build import BuildResult, VariantReport
from modelyard.serving.source import Source
from modelyard.workloads.numbers import shorten


def record(
    build_id: str, source: Source, result: BuildResult
) -> tuple[ServedModelStatus, CompressionStatus] | None:
    """The status of a build that has succeeded; None where its result lacks what servers need."""
    chosen = next((v for v in result.variants if v.name == result.chosen), None)
    if chosen is None or chosen.folder is None or result.digest is None:
        return None
    model = ServedModelStatus(
        uri=source.uri,
        digest=result.digest,
        revision=result.revision,
        job=source.job,
        dataset=source.dataset,
        task=result.task,
        stated_task=source.task,
        max_length=result.max_length,
    )
    compression = CompressionStatus(
        digest=build_id,
        folder=chosen.folder,
        reference=result.reference,
        runtime=chosen.runtime,
        chosen=chosen.name,
        variants=describe(result.variants),
    )
    return model, compression


def describe(variants: Sequence[VariantReport]) -> list[VariantStatus]:
    """What was measured, as the status has it."""
    return [_describe(variant) for variant in variants]


def _describe(variant: VariantReport) -> VariantStatus:
    return VariantStatus(
        name=variant.name,
        bytes=variant.bytes,
        load_seconds=shorten(variant.load_seconds, 3),
        latency_milliseconds=shorten(variant.latency_milliseconds, 3),
        requests_per_second=shorten(variant.requests_per_second, 3),
        concurrency=shorten(variant.concurrency, 3),
        metrics={name: v for name, value in variant.metrics.items() if (v := shorten(value, 6)) is not None},
        agreement=shorten(variant.agreement, 6),
        passed=variant.passed,
        reason=variant.reason,
    )
