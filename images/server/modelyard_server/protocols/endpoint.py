"""What all endpoints of inference do alike: read JSON, watch the caller, answer, refuse, count."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from modelyard_server.batching.batcher import Closed, Full
from modelyard_server.package.tokens import Untemplated
from modelyard_server.protocols.body import MAX_ROWS
from modelyard_server.protocols.problem import Problem, bad_request, describe_invalid
from modelyard_server.serving.predictor import Predictor
from modelyard_server.serving.served import NotFinite, TooLong
from modelyard_server.serving.service import Service

log = logging.getLogger(__name__)

_GONE = 499  # nginx' code for a caller that went away; counted, never sent

Body = TypeVar("Body", bound=BaseModel)
Result = TypeVar("Result")
Handler = Callable[[Request], Awaitable[Response]]


class Gone(Exception):  # noqa: N818 - a state, not a mistake
    """The caller has closed the connection."""


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON, in which NumPy's arrays may be; their float32 as the shortest numbers that are read back as the same."""
    return Response(
        orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), status, headers, "application/json"
    )


class EventStream(Response):
    """Server-sent events while they are made. `done` is called once, with the status that the answer deserves.

    The caller's leaving ends what makes them, also while nothing is sent.
    """

    media_type = "text/event-stream"

    def __init__(self, request: Request, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._request, self._events = request, events
        self.done: Callable[[int], None] = lambda status: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = _GONE
        try:
            await unless_gone(self._request, self._send(send))
            status = self.status_code
        except Gone:
            pass
        except Exception as error:  # the answer has begun: its events have told why it ends here
            status = explain(error).status
            await send({"type": "http.response.body", "body": b""})
        finally:
            await self._events.aclose()
            self.done(status)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for event in self._events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def endpoint(
    service: Service, protocol: str, handler: Handler, render: Callable[[Problem], Any]
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """The handler, with its problems rendered as the protocol has them. Nothing of an exception gets out."""

    async def handle(request: Request) -> Response:
        started = time.perf_counter()
        try:
            response = await handler(request)
        except Gone:
            response = Response(status_code=_GONE)
        except Exception as error:
            problem = explain(error)
            response = answer(render(problem), problem.status, problem.headers)

        def count(status: int) -> None:
            service.metrics.see_answer(protocol, status, time.perf_counter() - started)

        if isinstance(response, EventStream):
            response.done = count
        else:
            count(response.status_code)
        return response

    return handle


def explain(error: Exception) -> Problem:
    """What an exception means for the caller."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, TooLong):
        return Problem(400, str(error), code="context_length_exceeded")
    if isinstance(error, Untemplated):
        return bad_request(str(error), "messages")
    if isinstance(error, Full):
        return Problem(503, "the queue is full: come again in a second", code="overloaded")
    if isinstance(error, Closed):
        return Problem(503, "the server stops: ask another", code="stopping")
    log.error("a request failed", exc_info=error)
    said = "the model could not answer; the server's log says why"
    return Problem(500, said, code="internal_error", lasts=isinstance(error, NotFinite))


async def read_body(service: Service, request: Request, model: type[Body]) -> Body:
    """The request's JSON as the protocol's model. Raises Problem, Gone."""
    packed = request.headers.get("content-encoding", "").strip()
    if packed.lower() not in ("", "identity"):
        raise Problem(415, f"Content-Encoding {packed[:40]!r} isn't supported: send the JSON as it is")
    most = service.config.max_request_bytes
    parts, size = [], 0
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            raise Gone
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > most:
            raise Problem(413, f"the body has more than {most} bytes: send fewer texts at once")
        parts.append(part)
        if not message.get("more_body", False):
            break
    try:
        parsed = orjson.loads(b"".join(parts))
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body is no JSON: {error}") from None
    try:
        return model.model_validate(parsed)
    except ValidationError as error:
        raise describe_invalid(error.errors(include_url=False, include_context=False)) from None


def ready_predictor(service: Service) -> Predictor:
    """The model, where it can be asked. Raises Problem (503)."""
    model = service.model_for_request()
    if not isinstance(model, Predictor):
        raise Problem(503, service.why_unready() or "the model can't answer")
    return model


def check_count(rows: int, param: str) -> None:
    """Raises Problem for no text, or more than one request may have."""
    if not 1 <= rows <= MAX_ROWS:
        raise bad_request(f"a request has 1 to {MAX_ROWS} texts, and this one {rows}", param)


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The work's result; it is cancelled when the caller hangs up. For after the body was read. Raises Gone."""
    doing = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_wait_gone(request))
    try:
        await asyncio.wait((doing, watching), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise Gone
        return doing.result()
    finally:
        for task in (doing, watching):
            task.cancel()
        if not doing.done():
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await doing


async def _wait_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
