"""The reflector against a small server: pages, bookmarks, versions that are too old, lost connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration
from modelyard.cluster import client as client_module
from modelyard.cluster import definitions as definitions_module
from modelyard.cluster import reflector as module
from modelyard.cluster.client import Client
from modelyard.cluster.definitions import LOOKS, Definitions
from modelyard.cluster.login import Login
from modelyard.cluster.reflector import Reflector, WatchError
from modelyard.engine.cache import Cache
from modelyard.engine.kinds import Kind
from modelyard.engine.plan import Key, Manifest
from modelyard.features import KINDS
from modelyard.telemetry.metrics import Metrics

JOB = KINDS["Job"]
OPTIONAL = replace(JOB, optional=True)
EXPIRED = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}


def job(name: str, version: int) -> Manifest:
    labels = {"app.kubernetes.io/managed-by": "modelyard"}
    metadata = {"name": name, "namespace": "ns", "uid": f"u-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata | {"labels": labels, "managedFields": [{}]}, "spec": {}}


def event(kind: str, obj: Manifest) -> dict[str, Any]:
    return {"type": kind, "object": obj}


def bookmark(version: int) -> dict[str, Any]:
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


class Server:
    """Lists `objects` in pages of two at `version`. Each watch takes the next of `watches`.

    A watch is a list of events, after which it stays open ("open"), ends ("end") or breaks ("break"); or it
    is an HTTP code. When there is none left, a watch says nothing.
    """

    def __init__(self, *objects: Manifest, version: int = 10) -> None:
        self.objects = list(objects)
        self.version = version
        self.watches: list[Any] = []
        self.listed: list[dict[str, str]] = []
        self.watched: list[dict[str, str]] = []
        self.refuse: list[int] = []
        self.split = False
        self.definitions: asyncio.Queue[str] | int = asyncio.Queue()
        self.definitions_followed = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        if request.path.endswith("customresourcedefinitions"):
            return await self.define(request, query)
        assert request.path == "/apis/batch/v1/jobs"
        assert query["labelSelector"] == "app.kubernetes.io/managed-by=modelyard"
        if query.get("watch"):
            return await self.watch(request, query)
        self.listed.append(query)
        if self.refuse:
            return web.json_response({"message": "no"}, status=self.refuse.pop(0))
        start = int(query.get("continue", "0"))
        metadata = {"resourceVersion": str(self.version)}
        if start + 2 < len(self.objects):
            metadata["continue"] = str(start + 2)
        return web.json_response({"metadata": metadata, "items": self.objects[start : start + 2]})

    async def define(self, request: web.Request, query: dict[str, str]) -> web.StreamResponse:
        """Names of definitions that come, as metadata, in a watch that begins with what there is."""
        self.definitions_followed += 1
        assert query["watch"] and "resourceVersion" not in query
        assert "as=PartialObjectMetadata;" in request.headers["Accept"]
        if isinstance(self.definitions, int):
            return web.json_response({"message": "no"}, status=self.definitions)
        response = web.StreamResponse()
        await response.prepare(request)
        while (name := await self.definitions.get()) != "end":
            metadata = {"name": name, "resourceVersion": "3"}
            await response.write(json.dumps(event("ADDED", {"metadata": metadata})).encode() + b"\n")
        return response

    async def watch(self, request: web.Request, query: dict[str, str]) -> web.StreamResponse:
        self.watched.append(query)
        script = self.watches.pop(0) if self.watches else ["open"]
        if isinstance(script, int):
            return web.json_response({"message": "no"}, status=script)
        response = web.StreamResponse()
        await response.prepare(request)
        for step in script:
            if step == "open":
                await asyncio.sleep(30)
            elif step == "break":
                assert request.transport is not None
                request.transport.abort()
            elif step != "end":
                line = json.dumps(step).encode() + b"\n"
                for part in (line[:20], line[20:]) if self.split else (line,):
                    await response.write(part)
                    await asyncio.sleep(0)
        return response


class Followed:
    """What a reflector told, and its cache."""

    def __init__(self, server: Server, client: Client, kind: Kind = JOB) -> None:
        self.cache = Cache(KINDS)
        self.told: list[tuple[str | None, str]] = []
        self.lost: list[str] = []
        self.presence: list[bool] = []
        self.definitions = Definitions(client, [kind], lambda name, present: self.presence.append(present))
        self.reflector = Reflector(
            client=client, kind=kind, namespace=None, cache=self.cache, observe=self._observe,
            gone=self._gone, definitions=self.definitions, metrics=Metrics(), listing=asyncio.Lock(),
        )  # fmt: skip

    def _observe(self, event: str | None, obj: Manifest) -> None:
        assert (obj["kind"], obj["apiVersion"]) == ("Job", "batch/v1")
        assert "managedFields" not in obj["metadata"]
        name = obj["metadata"]["name"]
        self.told.append((event, name))
        if event == "DELETED":
            self.cache.remove(Key("Job", "ns", name))
        else:
            self.cache.put(obj, 0.0)

    def _gone(self, key: Key) -> None:
        self.lost.append(key.name)
        self.cache.remove(key)

    @property
    def names(self) -> list[str]:
        """What the cache holds."""
        return sorted(key.name for key in self.cache.keys("Job"))

    async def until(self, check: Callable[[], bool]) -> None:
        """Waits for something."""
        async with asyncio.timeout(5):
            while True:
                if check():
                    return
                await asyncio.sleep(0.005)


def follow(server: Server, scenario: Callable[[Followed], Awaitable[None]], kind: Kind = JOB) -> None:
    async def main() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        configuration = Configuration()
        configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with Client(Login(configuration, in_cluster=False), KINDS, Metrics()) as client:
                followed = Followed(server, client, kind)
                tasks = [
                    asyncio.create_task(each.run()) for each in (followed.reflector, followed.definitions)
                ]
                await scenario(followed)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await runner.cleanup()

    asyncio.run(main())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(definitions_module, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(definitions_module, "FIRST_LOOK", 0.001)
    monkeypatch.setattr(client_module, "RETRY_DELAY", 0.001)


def test_a_listing_comes_in_pages_and_its_end_is_known_exactly() -> None:
    server = Server(job("a", 1), job("b", 2), job("c", 3), job("d", 4), job("e", 5))

    async def scenario(followed: Followed) -> None:
        assert not followed.reflector.synced
        await followed.reflector.wait_synced()
        assert followed.told == [(None, name) for name in "abcde"]
        assert followed.lost == []

    follow(server, scenario)
    assert [q.get("continue") for q in server.listed] == [None, "2", "4"]
    assert all("resourceVersion" not in q for q in server.listed)  # as new as any write before it


@pytest.mark.parametrize("split", [False, True], ids=["whole lines", "torn lines"])
def test_a_watch_begins_at_the_listing_and_its_events_are_handed_on(split: bool) -> None:
    server = Server(job("a", 1))
    server.split = split
    server.watches = [
        [
            event("ADDED", job("b", 11)),
            event("MODIFIED", job("a", 12)),
            event("DELETED", job("b", 13)),
            "open",
        ]
    ]

    async def scenario(followed: Followed) -> None:
        await followed.until(lambda: len(followed.told) == 4)
        assert followed.told[1:] == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]
        assert followed.names == ["a"]

    follow(server, scenario)
    assert server.watched[0]["resourceVersion"] == "10"
    assert server.watched[0]["allowWatchBookmarks"] == "true"
    assert 300 <= int(server.watched[0]["timeoutSeconds"]) <= 600


@pytest.mark.parametrize("ending", ["end", "break"])
def test_a_watch_that_ends_goes_on_where_it_was_without_a_listing(ending: str) -> None:
    server = Server(job("a", 1))
    server.watches = [
        [event("ADDED", job("b", 11)), bookmark(40), ending],
        [event("ADDED", job("c", 41)), "open"],
    ]

    async def scenario(followed: Followed) -> None:
        await followed.until(lambda: followed.names == ["a", "b", "c"])

    follow(server, scenario)
    assert [q["resourceVersion"] for q in server.watched] == ["10", "40"]
    assert len(server.listed) == 1


@pytest.mark.parametrize("expired", [410, [EXPIRED, "end"]], ids=["answer", "event"])
def test_what_was_deleted_while_the_watch_was_away_is_found_gone(expired: Any) -> None:
    server = Server(job("a", 1), job("b", 2))
    server.watches = [[bookmark(12), "break"], expired]

    async def scenario(followed: Followed) -> None:
        await followed.reflector.wait_synced()
        server.objects, server.version = [job("b", 2), job("c", 21)], 30
        await followed.until(lambda: followed.names == ["b", "c"])
        await followed.until(lambda: len(server.watched) == 3)
        assert followed.lost == ["a"]

    follow(server, scenario)
    assert [q["resourceVersion"] for q in server.watched] == ["10", "12", "30"]
    assert len(server.listed) == 2


def test_a_version_that_the_server_never_had_is_given_up() -> None:
    server = Server(job("a", 1))
    server.watches = [504, 504, 504]

    async def scenario(followed: Followed) -> None:
        await followed.until(lambda: len(server.watched) == 4)

    follow(server, scenario)
    assert len(server.listed) == 2


def test_a_silent_connection_is_taken_for_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "WATCHING", aiohttp.ClientTimeout(sock_read=0.05))
    server = Server(job("a", 1))
    server.watches = [[bookmark(15), "open"], [event("ADDED", job("b", 16)), "open"]]

    async def scenario(followed: Followed) -> None:
        await followed.until(lambda: followed.names == ["a", "b"])

    follow(server, scenario)
    assert server.watched[1]["resourceVersion"] == "15"


def test_watches_that_end_at_once_are_slowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY", 0.2)
    server = Server(job("a", 1))
    server.watches = [["end"]] * 100

    async def scenario(followed: Followed) -> None:
        await followed.reflector.wait_synced()
        await asyncio.sleep(0.5)

    follow(server, scenario)
    assert 1 < len(server.watched) < 6


def test_a_server_in_trouble_is_asked_again() -> None:
    server = Server(job("a", 1))
    server.refuse = [503] * 5

    async def scenario(followed: Followed) -> None:
        await followed.until(lambda: followed.names == ["a"])

    follow(server, scenario)
    assert len(server.listed) == 6


@pytest.mark.parametrize(
    ("code", "says"), [(403, "Grant list and watch"), (404, "install the CustomResource")]
)
def test_a_kind_that_may_not_be_listed_ends_the_start(code: int, says: str) -> None:
    server = Server(job("a", 1))
    server.refuse = [code] * 9

    async def scenario(followed: Followed) -> None:
        with pytest.raises(WatchError, match=says):
            await followed.reflector.wait_synced()
        assert not followed.reflector.synced

    follow(server, scenario)
    assert len(server.listed) == 1


def test_a_right_that_is_lost_later_is_waited_for() -> None:
    server = Server(job("a", 1))
    server.watches = [410]

    async def scenario(followed: Followed) -> None:
        await followed.reflector.wait_synced()
        server.refuse = [403, 403]
        await followed.until(lambda: len(server.watched) == 2)
        assert followed.reflector.synced

    follow(server, scenario)
    assert len(server.listed) == 4


def test_an_event_that_cannot_be_taken_in_causes_a_listing(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(job("a", 1))
    server.watches = [[event("ADDED", {"metadata": {}}), "open"]]

    async def scenario(followed: Followed) -> None:
        await followed.until(lambda: len(server.watched) == 2)

    follow(server, scenario)
    assert len(server.listed) == 2
    assert "watch failed" in caplog.text


def test_an_optional_kind_that_is_not_served_has_no_objects_until_its_definition_comes() -> None:
    server = Server(job("a", 1))
    server.refuse = [404] * (1 + LOOKS + 3)

    async def scenario(followed: Followed) -> None:
        await followed.reflector.wait_synced()
        assert (followed.presence[0], followed.names) == (False, [])
        await followed.until(lambda: len(server.listed) == 1 + LOOKS)
        assert isinstance(server.definitions, asyncio.Queue)
        server.definitions.put_nowait("others.example.com")
        await asyncio.sleep(0.5)
        assert len(server.listed) == 1 + LOOKS, "as long as others come, nobody looks"
        server.definitions.put_nowait("jobs.batch")  # served a little later
        await followed.until(lambda: followed.names == ["a"])
        assert followed.presence == [False] * (1 + LOOKS + 3) + [True]

    follow(server, scenario, OPTIONAL)


def test_an_optional_kind_that_goes_takes_its_objects_along_and_may_come_back() -> None:
    server = Server(job("a", 1), job("b", 2))
    server.watches = [["end"], 404]

    async def scenario(followed: Followed) -> None:
        await followed.until(lambda: followed.presence == [True, False, True])
        assert sorted(followed.lost) == ["a", "b"]
        assert followed.names == ["a", "b"]
        assert [name for _, name in followed.told] == ["a", "b", "a", "b"]

    follow(server, scenario, OPTIONAL)


def test_a_watch_of_definitions_that_ends_is_begun_again_and_what_came_meanwhile_is_heard_of() -> None:
    server = Server(job("a", 1))
    server.refuse = [404] * (1 + LOOKS)  # whoever only looks does not find it

    async def scenario(followed: Followed) -> None:
        await followed.until(lambda: not server.refuse)
        assert isinstance(server.definitions, asyncio.Queue)
        server.definitions.put_nowait("end")
        server.definitions.put_nowait("jobs.batch")
        await followed.until(lambda: followed.names == ["a"])
        assert server.definitions_followed == 2

    follow(server, scenario, OPTIONAL)


def test_whoever_may_not_follow_definitions_looks_for_the_kind_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(definitions_module, "LOOK_AGAIN", 0.02)
    server = Server(job("a", 1))
    server.refuse = [404] * (LOOKS + 5)
    server.definitions = 403

    async def scenario(followed: Followed) -> None:
        await followed.until(lambda: followed.names == ["a"])
        assert followed.presence == [False] * (LOOKS + 5) + [True]
        assert server.definitions_followed == 1

    follow(server, scenario, OPTIONAL)


def test_without_optional_kinds_nobody_follows_definitions() -> None:
    server = Server(job("a", 1))

    async def scenario(followed: Followed) -> None:
        await followed.reflector.wait_synced()
        await asyncio.sleep(0.05)
        assert (server.definitions_followed, followed.presence) == (0, [])

    follow(server, scenario)
