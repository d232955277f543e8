"""The server's metrics: vLLM's names where they say the same, so that its dashboards and scalers work here too."""

from __future__ import annotations

from collections.abc import Callable

from modelyard.contract.server import ServerConfig
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128, 256)


class Metrics:
    """All series of one server. Labels have few values: the model's name, protocols, status codes."""

    def __init__(self, config: ServerConfig) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.labels = model = {"model_name": config.name, "engine": "0"}  # vLLM's labels
        names = tuple(model)

        def gauge(name: str, about: str) -> Gauge:
            return Gauge(name, about, names, registry=self.registry).labels(**model)

        def seconds(name: str, about: str) -> Histogram:
            return Histogram(name, about, names, registry=self.registry, buckets=_SECONDS).labels(**model)

        self._running = gauge("vllm:num_requests_running", "Requests that are computed.")
        self._waiting = gauge("vllm:num_requests_waiting", "Requests that wait.")
        self._latency = seconds(
            "vllm:e2e_request_latency_seconds", "From a request's head until its answer is whole."
        )
        self._queue = seconds("vllm:request_queue_time_seconds", "How long requests waited.")
        self._prompt = Counter(
            "vllm:prompt_tokens", "Tokens of the texts that were answered.", names, registry=self.registry
        ).labels(**model)
        self._success = Counter(
            "vllm:request_success",
            "Requests that were answered, by why the answer ended.",
            (*names, "finished_reason"),
            registry=self.registry,
        )
        self._answers = Counter(
            "modelyard_server_answers",
            "HTTP answers to inference requests.",
            ("protocol", "code"),
            registry=self.registry,
        )
        self._rows = Histogram(
            "modelyard_server_batch_rows", "Rows of a batch.", registry=self.registry, buckets=_ROWS
        )
        self._compute = Histogram(
            "modelyard_server_batch_seconds",
            "How long a batch was computed.",
            registry=self.registry,
            buckets=_SECONDS,
        )
        tokens = Counter(
            "modelyard_server_tokens", "Tokens that were computed.", ("kind",), registry=self.registry
        )
        self._text, self._padding = tokens.labels("text"), tokens.labels("padding")
        self._ready = Gauge("modelyard_server_ready", "1 while the server is ready.", registry=self.registry)
        about = {"task": config.task, "revision": config.revision, "runtime": config.runtime}
        Gauge(
            "modelyard_server_info", "What is served; always 1.", (*about, "variant"), registry=self.registry
        ).labels(**about, variant=config.variant).set(1)

    def follow(
        self, running: Callable[[], int], waiting: Callable[[], int], ready: Callable[[], bool]
    ) -> None:
        """Reads the gauges from these whenever they are asked for."""
        self._running.set_function(running)
        self._waiting.set_function(waiting)
        self._ready.set_function(ready)

    def see_batch(self, rows: int, tokens: int, width: int, seconds: float) -> None:
        """As batching.batcher.Observer."""
        self._rows.observe(rows)
        self._compute.observe(seconds)
        self._text.inc(tokens)
        self._padding.inc(rows * width - tokens)

    def see_wait(self, seconds: float) -> None:
        """As batching.batcher.Observer."""
        self._queue.observe(seconds)

    def see_answer(self, protocol: str, code: int, seconds: float) -> None:
        """An inference request was answered, or refused."""
        self._answers.labels(protocol, str(code)).inc()
        if code == 200:
            self._latency.observe(seconds)

    def see_finished(self, tokens: int, reason: str = "stop") -> None:
        """A request was answered: its prompt's tokens, and why the answer ended."""
        self._prompt.inc(tokens)
        self._success.labels(**self.labels, finished_reason=reason).inc()

    def render(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
