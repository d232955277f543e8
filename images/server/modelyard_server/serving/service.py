"""The state of a server: from loading to draining."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from modelyard_server.failure import Failure
from modelyard_server.serving.metrics import Metrics
from modelyard_server.serving.served import Served
from modelyard_server.settings import Settings

State = Literal["loading", "ready", "draining", "failed"]


class Service:
    """One model, or why there is none yet. `executor` is the one thread that loads it and computes."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.config = settings, settings.config
        self.metrics = Metrics(settings.config)
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.state: State = "loading"
        self.failure: Failure | None = None
        self.model: Served | None = None
        self.metrics.follow(
            lambda: self.model.running if self.model else 0,
            lambda: self.model.waiting if self.model else 0,
            lambda: self.why_unready() is None,
        )

    @property
    def alive(self) -> bool:
        """False where only a new process can help."""
        return self.state not in ("ready", "draining") or (self.model is not None and self.model.alive)

    def why_unready(self) -> str | None:
        """Why no new requests should come, in one sentence; None: they may."""
        if self.state == "failed":
            return str(self.failure)
        if self.state == "loading":
            return f"the model {self.config.name} is being loaded"
        if self.state == "draining":
            return "the server was asked to stop: it takes no new work"
        return self.why_dead()

    def why_dead(self) -> str | None:
        """Why only a new process can help, in one sentence; None: it need not."""
        if self.alive:
            return None
        why = "there is no model" if self.model is None else self.model.explain_end().message
        return f"the server can't answer any more and has to be started anew: {why}"

    def model_for_request(self) -> Served | None:
        """The model, also while it drains; None where there is none to ask."""
        return self.model if self.state in ("ready", "draining") and self.alive else None
