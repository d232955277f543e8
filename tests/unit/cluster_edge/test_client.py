"""The client against a small server: paths, retries, limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration
from modelyard.cluster import client as module
from modelyard.cluster.client import Client
from modelyard.cluster.login import Login
from modelyard.engine.errors import Conflict, NotLeader, Refused, Throttled, Unavailable
from modelyard.engine.plan import Key
from modelyard.engine.probe import Probe
from modelyard.features import KINDS
from modelyard.observe.poller import Answer
from modelyard.observe.proxied import ProxiedReader
from modelyard.telemetry.metrics import Metrics

JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "ns"}}


class Server:
    """Answers with what `answers` holds, the last one for ever; None drops the connection."""

    def __init__(self, *answers: tuple[int, Any] | None) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.headers: dict[str, str] = {}

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.text()
        self.requests.append(
            (request.method, request.path, dict(request.query), json.loads(body) if body else None)
        )
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        return web.json_response(answer[1], status=answer[0], headers=self.headers)


def use(server: Server, scenario: Callable[[Client], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        configuration = Configuration()
        configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
        configuration.api_key["BearerToken"] = "bearer t0ken"
        try:
            async with Client(Login(configuration, in_cluster=False), KINDS, Metrics()) as client:
                return await scenario(client)
        finally:
            await runner.cleanup()

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_DELAY", 0.001)


def test_an_apply_names_its_manager_and_the_object() -> None:
    server = Server((201, JOB))
    use(server, lambda c: c.apply(JOB, manager="m"))
    assert server.requests == [
        ("PATCH", "/apis/batch/v1/namespaces/ns/jobs/j", {"fieldManager": "m", "force": "true"}, JOB)
    ]


def test_what_shall_be_new_has_a_version_that_no_object_has() -> None:
    server = Server((201, JOB))
    assert use(server, lambda c: c.apply(JOB, new=True)) == JOB
    assert server.requests[0][3]["metadata"] == {"name": "j", "namespace": "ns", "resourceVersion": "1"}


def test_an_object_is_found_by_its_name() -> None:
    server = Server((200, {"items": [{"metadata": {"name": "j", "namespace": "ns"}}]}), (200, {"items": []}))
    key = Key("Job", "ns", "j")
    found = use(server, lambda c: c.find(key))
    assert (found["kind"], found["apiVersion"]) == ("Job", "batch/v1")
    assert server.requests[0][:3] == (
        "GET", "/apis/batch/v1/namespaces/ns/jobs", {"fieldSelector": "metadata.name=j"}
    )  # fmt: skip
    assert use(server, lambda c: c.find(key)) is None


def test_a_status_has_a_manager_of_its_own() -> None:
    server = Server((200, {"metadata": {}}))
    job = {"kind": "TrainingJob", "metadata": {"name": "t", "namespace": "ns"}, "status": {}}
    answer = use(server, lambda c: c.apply_status(job))
    _, path, query, _ = server.requests[0]
    assert path == "/apis/modelyard.dev/v1alpha1/namespaces/ns/trainingjobs/t/status"
    assert query == {"fieldManager": "modelyard-status", "force": "true"}
    assert (answer["kind"], answer["apiVersion"]) == ("TrainingJob", "modelyard.dev/v1alpha1")


def test_a_delete_is_of_that_very_object() -> None:
    server = Server((200, {"kind": "Status"}))
    assert use(server, lambda c: c.delete(Key("Job", "ns", "j"), "u1")) is None
    assert server.requests[0][3] == {"preconditions": {"uid": "u1"}, "propagationPolicy": "Background"}


def test_deleting_what_is_gone_is_no_error_and_what_is_held_comes_back() -> None:
    assert use(Server((404, {})), lambda c: c.delete(Key("Job", "ns", "j"), "u")) is None
    held = JOB | {"metadata": {"name": "j", "deletionTimestamp": "now"}}
    assert use(Server((200, held)), lambda c: c.delete(Key("Job", "ns", "j"), "u")) == held


@pytest.mark.parametrize(
    "trouble", [(500, {}), (503, {}), (429, {}), None], ids=["500", "503", "429", "dropped"]
)
def test_a_passing_trouble_is_overcome_within_the_call(trouble: tuple[int, Any] | None) -> None:
    server = Server(trouble, trouble, (200, JOB))
    server.headers = {"Retry-After": "0"}
    assert use(server, lambda c: c.apply(JOB)) == JOB
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("code", "error", "calls"),
    [(500, Unavailable, 3), (429, Throttled, 3), (422, Refused, 1), (409, Conflict, 1)],
)
def test_tries_are_bounded_and_made_only_where_they_may_help(
    code: int, error: type[Exception], calls: int
) -> None:
    server = Server((code, {}))
    server.headers = {"Retry-After": "0"}
    with pytest.raises(error):
        use(server, lambda c: c.apply(JOB))
    assert len(server.requests) == calls


def test_a_long_retry_after_goes_back_to_the_queue() -> None:
    server = Server((429, {}))
    server.headers = {"Retry-After": "60"}
    with pytest.raises(Throttled) as caught:
        use(server, lambda c: c.apply(JOB))
    assert caught.value.retry_after == 60
    assert len(server.requests) == 1


def test_without_the_lease_nothing_is_written() -> None:
    server = Server((200, JOB))

    async def scenario(client: Client) -> None:
        client.may_write = lambda: False
        for call in (
            client.apply(JOB),
            client.apply_status(JOB),
            client.create_event(JOB),
            client.delete(Key("Job", "ns", "j"), "u"),
        ):
            with pytest.raises(NotLeader):
                await call

    use(server, scenario)
    assert server.requests == []


def test_a_listing_is_read_page_by_page() -> None:
    def item(uid: str) -> dict[str, Any]:
        return {"metadata": {"uid": uid}}

    server = Server(
        (200, {"metadata": {"resourceVersion": "7", "continue": "more"}, "items": [item("1")]}),
        (200, {"metadata": {"resourceVersion": "7"}, "items": [item("2")]}),
    )

    async def scenario(client: Client) -> list[Any]:
        kind = KINDS["Job"]
        return [page async for page in client.list_pages(kind, None, "a=b")]

    assert use(server, scenario) == [([item("1")], 7), ([item("2")], 7)]
    assert [q.get("continue") for _, _, q, _ in server.requests] == [None, "more"]
    assert {q["labelSelector"] for _, _, q, _ in server.requests} == {"a=b"}


def test_agents_are_read_through_the_pod_proxy_and_failures_are_no_answer() -> None:
    probe = Probe("agent", "ns", "pod-0", "10.0.0.1", 9400, "/v1/progress")
    server = Server((200, {"step": 1}))
    read = use(server, lambda c: ProxiedReader(c.fetch).read(probe, 1.0, 0.0, None))
    assert read == Answer({"step": 1})
    assert server.requests[0][1] == "/api/v1/namespaces/ns/pods/pod-0:9400/proxy/v1/progress"
    for broken in (Server((503, {})), Server((200, [1]))):
        assert use(broken, lambda c: ProxiedReader(c.fetch).read(probe, 1.0, 0.0, None)) is None
