"""Servers are followed through the API server, and remembered while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from modelyard_gateway.balance.servers import Target
from modelyard_gateway.follow import slices, watch
from modelyard_gateway.follow.memory import Memory
from modelyard_gateway.follow.watch import Watch

from tests.unit.gateway.api import Api, make_slice
from tests.unit.gateway.rig import Rig, Upstream, reply, run


def read_all(*manifests: dict[str, Any]) -> dict[str, Target]:
    return slices.merge(part for manifest in manifests if (part := slices.read(manifest)) is not None)


def test_slices_of_a_revision_are_one_and_a_pod_with_two_addresses_is_one_server() -> None:
    found = read_all(
        make_slice("a", "10.0.0.1", "10.0.0.2"),
        make_slice("b", "10.0.0.3"),
        make_slice("c", "fd00::1", "fd00::9", family="IPv6"),
    )
    hosts = {"10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::9"}
    assert found == {"r1": Target(100, 0, frozenset((host, 8080) for host in hosts))}


def test_only_ready_endpoints_count_and_an_unknown_state_is_ready() -> None:
    no = make_slice("a", "10.0.0.1", ready=False)
    assert read_all(no)["r1"].addresses == frozenset()
    for state in (True, None):
        assert read_all(make_slice("a", "10.0.0.1", ready=state))["r1"].addresses
    bare = make_slice("a", "10.0.0.1")
    del bare["endpoints"][0]["conditions"], bare["endpoints"][0]["targetRef"]
    assert read_all(bare)["r1"].addresses == {("10.0.0.1", 8080)}


def test_labels_give_weight_and_concurrency_and_nonsense_gives_none() -> None:
    assert read_all(make_slice("a", weight="30", concurrency="4"))["r1"] == Target(30, 4, frozenset())
    for weight in (None, "", "-1", "x", "1.5"):
        assert read_all(make_slice("a", weight=weight))["r1"].weight == 0
    assert read_all(make_slice("a", weight="700"))["r1"].weight == 100
    assert read_all({"metadata": {"name": "foreign"}}) == {}
    assert read_all(make_slice("a", "x.example", family="FQDN")) == {}


def test_what_was_seen_last_is_kept_and_rubbish_is_no_reason_to_stop(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "servers.json")
    assert memory.load() is None
    targets = {
        "a": Target(90, 3, frozenset({("10.0.0.1", 80), ("fd00::1", 81)})),
        "b": Target(10, 0, frozenset()),
    }
    memory.store(targets)
    assert memory.load() == targets
    for rubbish in ("", "[]", '{"a": 1}', '{"a": [1, 2]}', '{"a": [1, 2, [3]]}', "{"):
        (tmp_path / "servers.json").write_text(rubbish)
        assert memory.load() is None
    Memory(tmp_path / "missing" / "servers.json").store(targets)


@asynccontextmanager
async def following(api: Api, folder: Path) -> AsyncIterator[list[dict[str, Target]]]:
    """What the watch tells."""
    (folder / "token").write_text("first\n")
    told: list[dict[str, Target]] = []
    async with api.serving() as url:
        task = asyncio.create_task(Watch(url, folder, "ns", "d", told.append, pause=0.01).run())
        try:
            yield told
        finally:
            task.cancel()


async def until(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
        await asyncio.sleep(0.005)


def test_it_lists_in_pages_and_then_hears_of_each_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        api = Api()
        api.page = 2
        for number in range(5):
            api.items[f"s{number}"] = make_slice(f"s{number}", f"10.0.0.{number}")
        async with following(api, tmp_path) as told:
            await until(lambda: api.watchers)
            assert len(told) == 1
            assert len(told[0]["r1"].addresses) == 5
            assert api.asked[0][0]["labelSelector"] == "modelyard.dev/modeldeployment=d"
            assert (api.asked[3][0]["resourceVersion"], api.asked[3][0]["allowWatchBookmarks"]) == (
                "10",
                "true",
            )
            api.put(make_slice("s0", "10.0.0.7", weight="0"), "MODIFIED")
            api.put(make_slice("n", "10.1.0.1", revision="r2", weight="100"), "ADDED")
            for number in range(5):
                api.put(make_slice(f"s{number}"), "DELETED")
            api.put(
                make_slice("n", "10.1.0.1", revision="r2", weight="100"), "MODIFIED"
            )  # nothing that matters
            await until(lambda: len(told) == 8)
            assert told[1]["r1"].addresses == frozenset((f"10.0.0.{n}", 8080) for n in (1, 2, 3, 4, 7))
            assert told[-1] == {"r2": Target(100, 0, frozenset({("10.1.0.1", 8080)}))}

    run(scenario())


def test_after_the_end_of_a_watch_it_goes_on_where_it_was_with_the_token_of_now(tmp_path: Path) -> None:
    async def scenario() -> None:
        api = Api()
        async with following(api, tmp_path) as told:
            await until(lambda: api.watchers)
            api.put({"metadata": {}, "kind": "EndpointSlice"}, "BOOKMARK")
            (tmp_path / "token").write_text("second\n")
            await asyncio.sleep(0.02)
            api.hang_up()
            await until(lambda: len(api.asked) == 3)
            assert api.asked[2][0]["resourceVersion"] == "11"
            assert [token for _, token in api.asked] == ["Bearer first", "Bearer first", "Bearer second"]
            assert told == [{}]

    run(scenario())


@pytest.mark.parametrize("in_an_event", [False, True])
def test_what_is_too_old_is_listed_anew_and_what_went_meanwhile_is_gone(
    tmp_path: Path, in_an_event: bool
) -> None:
    async def scenario() -> None:
        api = Api()
        api.items["a"] = make_slice("a", "10.0.0.1")
        async with following(api, tmp_path) as told:
            await until(lambda: api.watchers)
            api.items = {"b": make_slice("b", "10.0.0.2")}
            api.version = api.oldest = 99
            api.tells_late = in_an_event
            api.hang_up()
            await until(lambda: len(told) == 2)
            assert told[1]["r1"].addresses == {("10.0.0.2", 8080)}

    run(scenario())


@pytest.mark.parametrize("trouble", ["refused", "nonsense", "error event", "hang-up"])
def test_trouble_changes_nothing_and_passes(tmp_path: Path, trouble: str) -> None:
    async def scenario() -> None:
        api = Api()
        api.items["a"] = make_slice("a", "10.0.0.1")
        async with following(api, tmp_path) as told:
            await until(lambda: api.watchers)
            if trouble == "refused":
                api.refuse = 403
            elif trouble == "nonsense":
                for events in api.watchers:
                    events.put_nowait(b"<html>" * 10 + b"\n")
            elif trouble == "error event":
                api.tell({"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "etcd"}})
            api.hang_up()
            await until(lambda: len(api.asked) >= 4 or (trouble != "refused" and len(api.asked) >= 3))
            assert len(told) == 1
            api.refuse = 0
            await until(lambda: api.watchers)
            api.put(make_slice("a", "10.0.0.9"))
            await until(lambda: len(told) == 2)
            assert told[1]["r1"].addresses == {("10.0.0.9", 8080)}

    run(scenario())


async def count(api: Api, folder: Path, seconds: float) -> int:
    """Requests in so many seconds, whatever is wrong; with the pauses that there really are."""
    (folder / "token").write_text("token")
    async with api.serving() as url:
        task = asyncio.create_task(Watch(url, folder, "ns", "d", lambda _: None).run())
        await asyncio.sleep(seconds)
        task.cancel()
    return len(api.asked)


@pytest.mark.parametrize("trouble", ["refused", "ends at once", "error event", "nonsense"])
def test_an_api_server_in_trouble_is_asked_less_and_less_often(tmp_path: Path, trouble: str) -> None:
    watching: dict[str, int | bytes] = {
        "refused": 403,
        "ends at once": b"",
        "error event": b'{"type": "ERROR", "object": {"code": 500, "message": "etcd"}}\n',
        "nonsense": b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": "11"}}}\n',
    }

    async def scenario() -> None:
        api = Api()
        api.watching = watching[trouble]
        # Pauses of 0.1 to 0.2 s, 0.2 to 0.4 s, 0.4 to 0.8 s, ...: four tries at most, and a list before each.
        assert 3 <= await count(api, tmp_path, 1.5) <= 10

    run(scenario())


def test_what_an_api_server_does_not_know_yet_is_listed_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        api = Api()
        api.items["a"] = make_slice("a", "10.0.0.1")
        async with following(api, tmp_path) as told:
            await until(lambda: api.watchers)
            api.items = {"b": make_slice("b", "10.0.0.2")}
            api.watching = 504  # "Too large resource version", from one that is behind
            api.hang_up()
            await until(lambda: len(told) == 2)
            assert told[1]["r1"].addresses == {("10.0.0.2", 8080)}

    run(scenario())


def test_the_servers_task_and_what_they_speak_is_read_and_remembered(tmp_path: Path) -> None:
    manifest = make_slice("a", "10.0.0.1")
    manifest["metadata"]["labels"] |= {slices.TASK_LABEL: "text-generation", slices.SPEAKS_LABEL: "vllm"}
    found = read_all(manifest, make_slice("b", "10.0.0.2"))
    assert (found["r1"].task, found["r1"].speaks) == ("text-generation", "vllm")
    memory = Memory(tmp_path / "servers.json")
    memory.store(found)
    assert memory.load() == found
    for words in ("", ', "text-generation"'):  # of a release before
        (tmp_path / "servers.json").write_text('{"r1": [100, 0, [["10.0.0.1", 80]]' + words + "]}")
        (target,) = (memory.load() or {}).values()
        assert (set(target.addresses), target.speaks) == ({("10.0.0.1", 80)}, "")


def test_a_silent_watch_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_SILENCE_SECONDS", 0.1)

    async def scenario() -> None:
        api = Api()
        async with following(api, tmp_path):
            await until(lambda: sum("watch" in query for query, _ in api.asked) >= 3)

    run(scenario())


def test_a_gateway_follows_servers_and_a_new_one_goes_on_without_the_api_server(rig: Rig) -> None:
    async def scenario() -> None:
        api = Api()
        server = Upstream(reply(b"here"))
        await server.start()
        async with api.serving() as url, rig.gateway(api=url) as (gateway,):
            await until(lambda: api.watchers)
            waiting = asyncio.ensure_future(gateway.ask())
            await gateway.until(lambda: gateway.load == (1, 0))
            api.put(make_slice("a", "127.0.0.1", port=server.port), "ADDED")
            assert (await waiting).body == b"here"
        async with rig.gateway() as (gateway,):
            assert (await gateway.ask(path="/v2/health/ready", method="GET")).status == 200
            assert (await gateway.ask()).body == b"here"
        server.kill()

    run(scenario())
