"""The HTTP application: what every server answers, and its task's own."""

from __future__ import annotations

import time
from typing import Any

from modelyard import __version__
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelyard_server.protocols import oip, openai
from modelyard_server.protocols.endpoint import answer, explain
from modelyard_server.protocols.problem import Problem
from modelyard_server.serving.service import Service
from modelyard_server.tasks import Task

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Common:
    """GET requests that every server answers."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._created = int(time.time())

    def list_routes(self) -> list[Route]:
        """All of them."""
        model = "/v2/models/{model}"
        version = model + "/versions/{version}"
        handlers = {
            "/v2": self.describe_server,
            "/v2/health/live": self.tell_live,
            "/v2/health/ready": self.tell_ready,
            model: self.describe_model,
            version: self.describe_model,
            model + "/ready": self.tell_model_ready,
            version + "/ready": self.tell_model_ready,
            "/v1/models": self.list_models,
            "/v1/models/{model}": self.show_model,
            "/metrics": self.show_metrics,
        }
        return [Route(path, handler, methods=["GET"]) for path, handler in handlers.items()]

    async def describe_server(self, request: Request) -> Response:
        """Name, version and extensions."""
        return answer({"name": "modelyard_server", "version": __version__, "extensions": []})

    async def tell_live(self, request: Request) -> Response:
        """503 with the reason where only a new process helps."""
        reason = self._service.why_dead()
        return answer({"live": True}) if reason is None else answer({"error": reason}, 503)

    async def tell_ready(self, request: Request) -> Response:
        """503 with the reason while there should come no requests."""
        reason = self._service.why_unready()
        return answer({"ready": True}) if reason is None else answer({"error": reason}, 503)

    async def describe_model(self, request: Request) -> Response:
        """Inputs and outputs."""
        oip.check_model(self._service, request)
        model, config = self._service.model_for_request(), self._service.config
        if model is None:
            raise Problem(503, self._service.why_unready() or "the model can't answer")
        platform = {"torch": "pytorch", "onnx": "onnx"}[config.runtime]
        told = {"name": config.name, "versions": [config.revision], "platform": f"modelyard_{platform}"}
        return answer(told | model.describe())

    async def tell_model_ready(self, request: Request) -> Response:
        """As tell_ready."""
        oip.check_model(self._service, request)
        reason = self._service.why_unready()
        told = {"name": self._service.config.name, "ready": True}
        return answer(told) if reason is None else answer({"error": reason}, 503)

    async def list_models(self, request: Request) -> Response:
        """The one model."""
        return answer({"object": "list", "data": [self._describe()]})

    async def show_model(self, request: Request) -> Response:
        """The model, by its name."""
        openai.check_model(self._service, request.path_params["model"])
        return answer(self._describe())

    async def show_metrics(self, request: Request) -> Response:
        """For Prometheus."""
        return Response(self._service.metrics.render(), media_type=_METRICS_TYPE)

    def _describe(self) -> dict[str, Any]:
        told = {
            "id": self._service.config.name,
            "object": "model",
            "created": self._created,
            "owned_by": "modelyard",
        }
        model = self._service.model
        return told if model is None else told | {"max_model_len": model.limit}


class ClosingWhileDraining:
    """While the server drains, each answer ends its connection, so that callers find another server."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._service.state == "draining":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, send_closing if scope["type"] == "http" else send)


def make_app(service: Service, task: Task) -> ASGIApp:
    """All routes of a server."""

    async def refuse(request: Request, error: Exception) -> Response:
        problem = _explain_http(error, request, task) if isinstance(error, HTTPException) else explain(error)
        render = openai.render if request.url.path.startswith("/v1/") else oip.render
        headers = dict(getattr(error, "headers", None) or {})
        return answer(render(problem), problem.status, problem.headers | headers)

    app = Starlette(
        routes=[*Common(service).list_routes(), *task.list_routes(service)],
        exception_handlers={HTTPException: refuse, Problem: refuse, Exception: refuse},
    )
    app.router.redirect_slashes = False
    return ClosingWhileDraining(app, service)


def _explain_http(error: HTTPException, request: Request, task: Task) -> Problem:
    path = request.url.path
    if error.status_code == 404:
        return Problem(
            404, f"there is nothing at {path}; this server's task is {task.name}", code="not_found"
        )
    if error.status_code == 405:
        return Problem(405, f"{path} doesn't take {request.method}", code="method_not_allowed")
    return Problem(error.status_code, error.detail)
