"""The result fits where the kubelet keeps it."""

from __future__ import annotations

from modelyard.contract.build import BuildResult, VariantReport
from modelyard.contract.codes import TERMINATION_LIMIT
from modelyard.contract.reading import read
from modelyard.contract.report import FailureReport
from modelyard_build.report import dump, fit


def make_result(sentence: str) -> BuildResult:
    metrics = dict.fromkeys(("loss", "accuracy", "f1", "precision", "recall"), 0.123456789012345678)
    variants = [
        VariantReport(
            name=name, folder=f"packages/{'d' * 64}/{name}-0123456789ab", bytes=10**11, load_seconds=1.2345678901234,
            latency_milliseconds=12.345678901234, requests_per_second=123.45678901234, concurrency=128.0,
            metrics=metrics, agreement=0.98765432109876, passed=False, reason=sentence,
        )
        for name in ("none", "bf16", "int8")
    ]  # fmt: skip
    return BuildResult(
        outcome="failed", digest="sha256-" + "0" * 64, revision="c" * 40, task="text-classification",
        max_length=512, variants=variants, reference="packages/" + "d" * 80,
        failure=FailureReport(reason="CompressionGateFailed", message=sentence, exit_code=2),
    )  # fmt: skip


def test_a_short_result_is_told_whole() -> None:
    result = make_result("why not")
    assert fit(result, TERMINATION_LIMIT) == dump(result)


def test_long_sentences_are_cut_and_figures_stay() -> None:
    for sentence in ("word " * 200, "ü\U0001f600\n" * 400):
        result = make_result(sentence)
        text = fit(result, TERMINATION_LIMIT)
        assert len(text) <= TERMINATION_LIMIT
        told = read(BuildResult, text.decode())
        assert told is not None and told.failure is not None
        assert [v.metrics for v in told.variants] == [v.metrics for v in result.variants]
        assert told.failure.message.endswith("…") and told.failure.message[:20] == sentence[:20]
