"""What the server counts, by the names that vLLM's dashboards ask for."""

from __future__ import annotations

import asyncio
from pathlib import Path

from modelyard.contract.server import ServerConfig
from modelyard_server.serving.metrics import Metrics
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.server.models import answer, make_service, serving


def read(metrics: Metrics) -> dict[str, float]:
    """Values by name and labels, as `name{a=b}`."""
    everywhere = ("engine", "model_name")
    return {
        sample.name
        + "".join(
            f"{{{k}={v}}}" for k, v in sorted(sample.labels.items()) if k not in everywhere
        ): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_batches_padding_waiting_and_answers_are_counted() -> None:
    metrics = Metrics(ServerConfig(name="toy", task="embeddings", folder="f", variant="bf16"))
    running, ready = [3], [True]
    metrics.follow(lambda: running[0], lambda: 2, lambda: ready[0])
    metrics.see_batch(rows=4, tokens=30, width=10, seconds=0.02)
    metrics.see_wait(0.3)
    metrics.see_answer("oip", 200, 0.4)
    metrics.see_answer("openai", 400, 0.001)
    metrics.see_finished(17)
    found = read(metrics)
    assert found["vllm:num_requests_running"] == 3
    assert found["vllm:num_requests_waiting"] == 2
    assert found["vllm:request_success_total{finished_reason=stop}"] == 1
    assert found["vllm:e2e_request_latency_seconds_sum"] == 0.4
    assert found["vllm:request_queue_time_seconds_sum"] == 0.3
    assert found["vllm:prompt_tokens_total"] == 17
    assert found["modelyard_server_answers_total{code=200}{protocol=oip}"] == 1
    assert found["modelyard_server_answers_total{code=400}{protocol=openai}"] == 1
    assert found["modelyard_server_batch_rows_sum"] == 4
    assert found["modelyard_server_batch_seconds_sum"] == 0.02
    assert found["modelyard_server_tokens_total{kind=text}"] == 30
    assert found["modelyard_server_tokens_total{kind=padding}"] == 10
    assert found["modelyard_server_ready"] == 1
    assert found["process_start_time_seconds"] > 0
    assert found["modelyard_server_info{revision=1}{runtime=torch}{task=embeddings}{variant=bf16}"] == 1
    running[0], ready[0] = 0, False
    assert read(metrics)["vllm:num_requests_running"] == 0
    assert read(metrics)["modelyard_server_ready"] == 0


def test_a_server_that_has_answered_has_nobody_left(classifier: Path) -> None:
    service = make_service(classifier, "text-classification")

    async def whole() -> None:
        async with serving(service) as model:
            await answer(model, "a", "many words are said")
            found = read(service.metrics)
            assert found["vllm:num_requests_running"] == found["vllm:num_requests_waiting"] == 0
            assert found["modelyard_server_batch_rows_sum"] == 3  # the proof's too
            assert found["modelyard_server_ready"] == 1
        assert read(service.metrics)["modelyard_server_ready"] == 0

    asyncio.run(whole())
