"""Thousands of jobs are deleted in small calls, and an overloaded server is asked again."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.bench.removal import JOBS, OWNED, remove
from tests.bench.server import Server, ServerError
from tests.unit.bench.slowserver import MOST_PER_CALL, SlowServer, hurry, use


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def removed(fake: SlowServer, folder: Path, seconds: float = 20) -> None:
    use(fake, folder, lambda server: remove(server, "r", seconds, pause=0.001))


def test_more_jobs_than_one_call_can_delete_all_go_with_their_children(tmp_path: Path) -> None:
    fake = SlowServer("r", 3 * MOST_PER_CALL + 7)
    removed(fake, tmp_path)
    assert fake.jobs == {}
    assert not any(fake.children.values())
    assert 1 < fake.most_busy <= 16, "several at a time, and never so many that the others have to wait"


def test_one_call_for_everything_is_more_than_such_a_server_can_do(tmp_path: Path) -> None:
    fake = SlowServer("r", 3 * MOST_PER_CALL)
    with pytest.raises(ServerError, match="504"):
        use(fake, tmp_path, lambda server: server.call("DELETE", f"{JOBS}?labelSelector=bench-run%3Dr"))


@pytest.mark.parametrize("status", [429, 500, 503, 504])
@pytest.mark.parametrize("done_anyway", [False, True])
def test_an_overloaded_server_is_asked_again_whether_it_did_the_work_or_not(
    tmp_path: Path, status: int, done_anyway: bool
) -> None:
    fake = SlowServer("r", 40)
    turn = itertools.count()
    fake.trouble, fake.done_anyway = lambda method, path: status if next(turn) % 3 == 1 else None, done_anyway
    removed(fake, tmp_path)
    assert fake.jobs == {}
    assert sum(method == "DELETE" for method, _ in fake.requests) > 40


def test_a_dropped_answer_to_a_list_begins_it_again_when_its_pages_have_expired(tmp_path: Path) -> None:
    fake = SlowServer("r", 2 * MOST_PER_CALL)
    gone = itertools.count()
    lists = itertools.count()

    def trouble(method: str, path: str) -> int | None:
        second = method == "GET" and path == JOBS and next(lists) == 1
        return 410 if second and next(gone) == 0 else None

    fake.trouble = trouble
    removed(fake, tmp_path)
    assert fake.jobs == {}


def test_other_runs_jobs_stay(tmp_path: Path) -> None:
    fake = SlowServer("r", 5)
    fake.jobs |= {"other-1": "other"}
    for names in fake.children.values():
        names.add("other-1")
    removed(fake, tmp_path)
    assert fake.jobs == {"other-1": "other"}
    assert all(names == {"other-1"} for names in fake.children.values())


def test_what_does_not_go_is_counted_and_named_when_the_time_is_up(tmp_path: Path) -> None:
    fake = SlowServer("r", 5)
    fake.stuck = {"r-00001", "r-00003"}
    with pytest.raises(TimeoutError, match="2 trainingjobs of the run r are still there 0 s after"):
        removed(fake, tmp_path, seconds=0.1)
    fake = SlowServer("r", 3, collect_after=10**9)
    with pytest.raises(TimeoutError, match=f"3 {OWNED[0].rsplit('/', 1)[-1]} of the run r are still there"):
        removed(fake, tmp_path, seconds=0.1)


def test_a_refusal_is_not_repeated(tmp_path: Path) -> None:
    fake = SlowServer("r", 3)
    fake.trouble = lambda method, path: 403 if method == "GET" else None
    with pytest.raises(ServerError, match="403"):
        removed(fake, tmp_path)
    assert len(fake.requests) == 1


def test_a_server_that_stays_overloaded_is_given_up_with_its_last_answer(tmp_path: Path) -> None:
    fake = SlowServer("r", 3)
    fake.trouble = lambda method, path: 504

    async def scenario(server: Server) -> None:
        await server.insist("GET", JOBS, seconds=0.05)

    with pytest.raises(ServerError, match=r"504 .*did not complete"):
        use(fake, tmp_path, scenario)
    assert len(fake.requests) > 3
