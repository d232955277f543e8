"""A task: how its models are loaded, and what can be asked of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from starlette.routing import Route

from modelyard_server.package.folder import open_package
from modelyard_server.protocols import oip
from modelyard_server.protocols.endpoint import Handler, endpoint
from modelyard_server.protocols.problem import Problem
from modelyard_server.runtimes import RUNTIMES
from modelyard_server.serving.head import Head
from modelyard_server.serving.predictor import TOKENS_PER_THREAD, Predictor
from modelyard_server.serving.served import Served
from modelyard_server.serving.service import Service

__all__ = ["TOKENS_PER_THREAD", "PredictiveTask", "Task", "post"]


class Task(ABC):
    """One task. Its models may be anything that is Served."""

    name: ClassVar[str]

    @abstractmethod
    def load(self, service: Service) -> Served:
        """Loads the model, on the service's executor. Raises Failure, and OSError of the storage."""

    @abstractmethod
    def list_routes(self, service: Service) -> list[Route]:
        """What it answers besides what every server does. They stand before the model is loaded."""


class PredictiveTask(Task):
    """A task whose model answers each text with a vector, in batches. `head` reads them."""

    head: ClassVar[type[Head]]

    def load(self, service: Service) -> Predictor:
        settings = service.settings
        package = open_package(settings.folder, settings.config, settings.reference)
        head = self.head(package)
        runtime = RUNTIMES[settings.config.runtime].load(package, head.output, settings.threads)
        return Predictor(package, runtime, head, settings.threads, service.executor, service.metrics)

    def list_routes(self, service: Service) -> list[Route]:
        infer = oip.Infer(service)
        return [
            post(service, path, infer, "oip", oip.render)
            for path in ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
        ]


def post(
    service: Service, path: str, handler: Handler, protocol: str, render: Callable[[Problem], Any]
) -> Route:
    """A route for inference."""
    return Route(path, endpoint(service, protocol, handler, render), methods=["POST"])
