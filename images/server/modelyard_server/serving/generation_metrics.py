"""What generation counts besides, by vLLM's names."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from modelyard_server.serving.metrics import Metrics

if TYPE_CHECKING:
    from modelyard_server.serving.generator import Answer

_FIRST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0)
_EACH = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0)


class GenerationMetrics:
    """Tokens, the times between them, and the cache."""

    def __init__(self, metrics: Metrics, cache_use: Callable[[], float]) -> None:
        self._metrics = metrics
        labels, registry = metrics.labels, metrics.registry
        names = tuple(labels)

        def seconds(name: str, about: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, about, names, registry=registry, buckets=buckets).labels(**labels)

        self.first = seconds(
            "vllm:time_to_first_token_seconds", "From a prompt's tokens to the answer's first.", _FIRST
        )
        self.each = seconds("vllm:inter_token_latency_seconds", "From one token to the next.", _EACH)
        self.mean = seconds(
            "vllm:request_time_per_output_token_seconds",
            "From one token to the next, a request's mean.",
            _EACH,
        )
        self.made = Counter(
            "vllm:generation_tokens", "Tokens that were made.", names, registry=registry
        ).labels(**labels)
        gauge = Gauge(
            "vllm:kv_cache_usage_perc",
            "Share of the key-value cache in use, from 0 to 1.",
            names,
            registry=registry,
        )
        gauge.labels(**labels).set_function(cache_use)

    def begin(self, answer: Answer) -> Watch:
        """For a request that has come."""
        return Watch(self, answer)

    def see_finished(self, answer: Answer) -> None:
        """A request has ended; where the caller left or the model failed, it has no reason, which vLLM calls abort."""
        self._metrics.see_finished(answer.prompt, answer.reason or "abort")


class Watch:
    """The times of one request."""

    def __init__(self, metrics: GenerationMetrics, answer: Answer) -> None:
        self._metrics, self._answer = metrics, answer
        self._begun = self._last = time.perf_counter()
        self._first = 0.0

    def see_token(self) -> None:
        """A token has come."""
        now = time.perf_counter()
        if self._answer.made == 1:
            self._first = now
            self._metrics.first.observe(now - self._begun)
        else:
            self._metrics.each.observe(now - self._last)
        self._last = now
        self._metrics.made.inc()

    def end(self) -> None:
        """None comes any more."""
        if self._answer.made > 1:
            self._metrics.mean.observe((self._last - self._first) / (self._answer.made - 1))
        self._metrics.see_finished(self._answer)
