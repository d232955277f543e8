"""Events of other controllers: which are told, and how few calls that takes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from modelyard.cluster.client import Client
from modelyard.cluster.eventreader import FRESH, EventReader
from modelyard.engine.probe import EventProbe

from tests.unit.cluster_edge.test_client import Server, use

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def event(uid: str, message: str, seconds_ago: float = 1.0, **fields: Any) -> dict[str, Any]:
    time = (NOW - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
    about = {"kind": "Job", "uid": uid}
    return {
        "metadata": {}, "involvedObject": about, "reason": "FailedCreate", "message": message,
        "lastTimestamp": time, **fields,
    }  # fmt: skip


def listing(*events: dict[str, Any], more: str = "") -> tuple[int, dict[str, Any]]:
    return 200, {"items": list(events), "metadata": {"continue": more}}


def probe(uid: str, namespace: str = "ns") -> EventProbe:
    return EventProbe(f"events-{uid}", namespace, "Job", uid)


def ask(server: Server, *probes: EventProbe, times: list[float] | None = None) -> list[Any]:
    """Asks one after the other (at these monotonic times), or all at once."""
    clock = {"now": 0.0}

    async def scenario(client: Client) -> list[Any]:
        reader = EventReader(client, lambda: clock["now"], lambda: NOW)
        answers: list[Any] = []
        if times is None:
            answers += await asyncio.gather(*(reader.read_events(p, 3.0) for p in probes))
            return answers
        for p, clock["now"] in zip(probes, times, strict=True):
            answers.append(await reader.read_events(p, 3.0))
        return answers

    answers: list[Any] = use(server, scenario)
    return answers


def test_only_warnings_about_the_kind_are_listed_page_by_page() -> None:
    server = Server(listing(event("u", "one"), more="x"), listing(event("u", "two", 2)))
    assert ask(server, probe("u")) == [
        {
            "events": [
                {"reason": "FailedCreate", "message": "one"},
                {"reason": "FailedCreate", "message": "two"},
            ]
        }
    ]
    first, second = server.requests
    assert first[:2] == ("GET", "/api/v1/namespaces/ns/events")
    assert first[2]["fieldSelector"] == "type=Warning,involvedObject.kind=Job"
    assert second[2]["continue"] == "x"


def test_others_events_and_old_ones_are_left_out_and_repetitions_are_one() -> None:
    server = Server(
        listing(
            event("other", "not mine"),
            event("u", "cured long ago", 601),
            event("u", "again", 30),
            event("u", "again", 20),
            event("u", "newest", 5),
        )
    )
    (answer,) = ask(server, probe("u"))
    assert [e["message"] for e in answer["events"]] == ["newest", "again"]
    assert ask(Server(listing(event("other", "x"))), probe("u")) == [{}]


def test_the_time_is_found_where_either_api_writes_it() -> None:
    recent = "2025-12-31T23:59:50.123456Z"
    server = Server(
        listing(
            event("a", "series", lastTimestamp=None, series={"lastObservedTime": recent}),
            event("b", "once", lastTimestamp=None, eventTime=recent),
            event("c", "never", lastTimestamp=None),
        )
    )
    a, b, c = ask(server, probe("a"), probe("b"), probe("c"))
    assert (bool(a), bool(b), c) == (True, True, {})


def test_a_thousand_that_ask_at_once_are_served_by_one_listing() -> None:
    server = Server(listing(event("u7", "no room")))
    answers = ask(server, *(probe(f"u{n}") for n in range(1000)))
    assert len(server.requests) == 1
    assert [n for n, answer in enumerate(answers) if answer] == [7]


def test_a_listing_is_good_for_a_while_and_for_its_namespace() -> None:
    server = Server(listing())
    ask(server, probe("u"), probe("v"), probe("u"), times=[0.0, FRESH - 0.1, FRESH + 0.1])
    assert len(server.requests) == 2
    ask(server, probe("u"), probe("u", "other"), times=[0.0, 0.0])
    assert len(server.requests) == 4


def test_where_nobody_answers_or_it_is_forbidden_there_is_no_answer() -> None:
    assert ask(Server(None), probe("u")) == [None]
    forbidden = {"kind": "Status", "reason": "Forbidden", "message": "events is forbidden"}
    assert ask(Server((403, forbidden)), probe("u")) == [None]
