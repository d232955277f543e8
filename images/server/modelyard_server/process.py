"""The life of a server's process: listen, load, prove, serve, and drain when it is asked to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from types import FrameType

import uvicorn
from modelyard.contract import codes
from modelyard_models.failure import describe, source_failure

from modelyard_server.app import make_app
from modelyard_server.failure import Failure, leave_reason
from modelyard_server.serving.served import Served
from modelyard_server.serving.service import Service
from modelyard_server.settings import Settings
from modelyard_server.tasks import Task, find_task

log = logging.getLogger(__name__)

LINGER_SECONDS = 5.0  # after a failure, in which whoever asks for readiness is told why
_WATCH_SECONDS = 0.5
_KEEP_ALIVE_SECONDS = 120  # of an idle connection: longer than gateways keep theirs, so that they end them


class _Server(uvicorn.Server):
    """uvicorn's, with signals left to us."""

    def __init__(self, config: uvicorn.Config, process: Process) -> None:
        super().__init__(config)
        self._process = process
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called in a signal's handler."""
        self._loop.call_soon_threadsafe(self._process.stop, signal.Signals(sig).name)


class Process:
    """One server, from start to exit code."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._service = Service(settings)
        self._task: Task = find_task(settings.config.task)
        self._stopping: asyncio.Task[None] | None = None
        self._server: _Server | None = None
        self._code = codes.EXIT_OK

    async def run(self) -> int:
        """Serves until it is asked to stop, or the model can't be served. Returns the exit code.

        Raises Failure (StartFailed) where the port can't be had.
        """
        listener = listen(self._settings.port)
        config = uvicorn.Config(
            make_app(self._service, self._task),
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, round(self._settings.config.drain_seconds)),
        )
        self._server = _Server(config, self)
        loading = asyncio.create_task(self._load())
        log.info("listening on port %d", listener.getsockname()[1])
        await self._server.serve([listener])
        loading.cancel()
        if self._service.model is not None and self._service.state == "draining":
            await self._service.model.close()
        return self._code

    def stop(self, why: str) -> None:
        """Begins to drain. A second call ends it at once, and so does the first where nothing is served."""
        if self._server is None:
            return
        if self._stopping is None and self._service.state == "ready":
            log.info("%s: draining", why)
            self._service.state = "draining"
            self._stopping = asyncio.create_task(self._drain(self._server))
        else:
            log.info("%s: ending", why)
            self._end()

    async def _drain(self, server: _Server) -> None:
        """Goes on accepting for a little, then lets uvicorn close the port and finish what runs."""
        await asyncio.sleep(codes.ANNOUNCE_SECONDS)
        server.should_exit = True

    def _end(self) -> None:
        if self._server is not None:
            self._server.should_exit = True
            self._server.force_exit = True

    async def _load(self) -> None:
        service = self._service
        try:
            model = await asyncio.get_running_loop().run_in_executor(
                service.executor, self._task.load, service
            )
            await self._prove(model)
            log.info("ready: %s, revision %s", service.config.name, service.config.revision)
            await _watch(model)
        except Exception as error:
            failure = explain(error, service)
            log.error("%s", failure, exc_info=None if isinstance(error, Failure) else error)
            service.failure, service.state = failure, "failed"
            self._code = failure.exit_code
            if service.model is not None:
                service.model.abandon()
            leave_reason(failure, self._settings.termination, self._settings.result)
            await asyncio.sleep(LINGER_SECONDS)
            self._end()

    async def _prove(self, model: Served) -> None:
        model.start()
        await model.prove()
        self._service.model = model
        self._service.state = "ready"


async def _watch(model: Served) -> None:
    """Raises Failure when the model can't answer any more."""
    while model.alive:  # noqa: ASYNC110 - threads end without an event
        await asyncio.sleep(_WATCH_SECONDS)
    raise model.explain_end()


def listen(port: int) -> socket.socket:
    """A socket on all addresses, of both kinds where the pod has both; 0 takes any free port. Raises Failure."""
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=2048)
        return socket.create_server(("", port), backlog=2048)
    except OSError as error:
        raise Failure(
            "StartFailed", f"port {port} can't be listened on: {error.strerror}", temporary=True
        ) from error


def explain(error: Exception, service: Service) -> Failure:
    """Why a model can't be served."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return Failure(
            "HostOutOfMemory", "the model doesn't fit into the memory; raise server.resources.limits.memory"
        )
    if isinstance(error, OSError) and error.filename is not None:
        return source_failure(error, service.config.folder, "Model")
    # Not known: it may be the node's, and another start tells.
    return Failure("StartFailed", f"the server could not begin: {describe(error)}", temporary=True)
