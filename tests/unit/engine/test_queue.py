"""The work queue, on a clock that stands still."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from modelyard.engine.plan import Key
from modelyard.engine.queue import PATIENCE, WorkQueue
from modelyard.telemetry.metrics import Metrics

from tests.fakes.clock import FakeClock

A, B = Key("Toy", "ns", "a"), Key("Toy", "ns", "b")


def make(spacing: float = 0.0) -> tuple[WorkQueue, FakeClock, Metrics]:
    clock, metrics = FakeClock(), Metrics()
    return WorkQueue(clock, metrics, spacing=spacing, jitter=lambda: 0.0), clock, metrics


def take(queue: WorkQueue) -> Key | None:
    return asyncio.run(queue.get())


def test_a_key_that_waits_is_not_put_in_twice() -> None:
    queue, _, _ = make()
    for _ in range(5):
        queue.add(A)
    assert len(queue) == 1


def test_a_key_in_work_is_given_to_no_other_worker_and_comes_again_afterwards() -> None:
    queue, _, _ = make()
    queue.add(A)
    assert take(queue) == A
    queue.add(A)
    queue.add(A)
    assert len(queue) == 0
    queue.done(A)
    assert len(queue) == 1


def test_keys_come_in_the_order_in_which_they_were_added() -> None:
    queue, _, _ = make()
    queue.add(B)
    queue.add(A)
    assert [take(queue), take(queue)] == [B, A]


def test_a_key_that_is_deferred_until_an_event_comes_forward_with_it_and_keeps_its_turn() -> None:
    queue, _, _ = make()
    c = Key("Toy", "ns", "c")
    for key in (A, B, c):
        queue.defer(key, until_event=True)
    queue.defer(c, until_event=True)  # all are looked at again: nothing has happened to it
    crowded = [queue.crowded]
    queue.add(B)
    assert [*crowded, queue.crowded, len(queue)] == [False, True, 3]
    assert [take(queue), take(queue), take(queue)] == [B, A, c]
    for key in (A, B, c):
        queue.done(key)
    queue.defer(B)  # what was quiet once is not so for ever
    queue.add(B)
    queue.add(A)
    assert [take(queue), take(queue)] == [A, B]


def test_a_key_in_work_is_looked_at_again_behind_the_others() -> None:
    queue, _, _ = make()
    queue.add(A)
    assert take(queue) == A
    queue.defer(A, until_event=True)
    queue.done(A)
    queue.add(B)
    assert [take(queue), take(queue)] == [B, A]


def test_a_deferred_key_lets_the_others_go_first_but_not_for_ever() -> None:
    queue, clock, _ = make()
    queue.defer(A)
    queue.add(A)  # an event for it changes nothing
    crowded = [queue.crowded]
    queue.add(B)
    assert [*crowded, queue.crowded] == [False, True]
    assert [take(queue), take(queue)] == [B, A]
    for key in (A, B):
        queue.done(key)
        queue.defer(key)
    clock.advance(PATIENCE)
    fresh = [Key("Toy", "ns", name) for name in "cde"]
    for key in fresh:
        queue.add(key)
    assert [take(queue) for _ in range(5)] == [fresh[0], A, fresh[1], B, fresh[2]]


def test_a_key_that_is_deferred_while_it_is_worked_on_comes_after_the_spacing_and_the_others() -> None:
    queue, clock, _ = make(spacing=0.1)
    queue.add(A)
    take(queue)
    queue.defer(A)
    queue.done(A)
    clock.advance(0.2)
    queue.add(B)
    assert [take(queue), take(queue)] == [B, A]
    queue.done(A)
    clock.advance(0.2)
    queue.add(A)
    assert queue.crowded, "deferred once, not for ever"


def test_of_several_delays_the_shortest_counts() -> None:
    queue, clock, _ = make()
    queue.add_after(A, 10)
    queue.add_after(A, 2)
    queue.add_after(A, 5)
    clock.advance(1.9)
    assert len(queue) == 0
    clock.advance(0.2)
    assert take(queue) == A
    queue.done(A)
    clock.advance(100)
    assert len(queue) == 0


def test_failures_double_the_delay_up_to_a_bound_and_success_resets_it() -> None:
    queue, clock, _ = make()
    delays = []
    for _ in range(20):
        delays.append(queue.retry(A))
        clock.advance(delays[-1])
        take(queue)
        queue.done(A)
    assert delays[:4] == [0.005, 0.01, 0.02, 0.04]
    assert delays[-1] == 1000.0
    queue.forget(A)
    assert queue.retry(A) == 0.005
    assert queue.retry(B, at_most=0.001) == 0.001


def test_jitter_adds_up_to_a_fifth() -> None:
    queue = WorkQueue(FakeClock(), Metrics(), jitter=lambda: 1.0)
    assert queue.retry(A) == 0.005 * 1.2


def test_a_burst_of_events_after_a_pass_becomes_one_pass_after_the_spacing() -> None:
    queue, clock, _ = make(spacing=0.05)
    queue.add(A)
    assert take(queue) == A  # the first of a quiet key is not held back
    queue.done(A)
    for _ in range(4):
        clock.advance(0.01)
        queue.add(A)
    assert len(queue) == 0
    clock.advance(0.01)
    assert take(queue) == A
    queue.done(A)
    clock.advance(1)
    assert len(queue) == 0


def test_a_waiting_worker_gets_a_key_that_comes_and_closing_sends_all_home() -> None:
    async def scenario() -> list[Key | None]:
        queue, _, _ = make()
        workers = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(0)
        queue.add(A)
        await asyncio.sleep(0)
        queue.close()
        queue.add(B)
        return await asyncio.gather(*workers)

    got = asyncio.run(scenario())
    assert sorted(str(k) for k in got if k) == [str(A)]
    assert got.count(None) == 2


def test_the_metrics_are_those_of_client_go() -> None:
    queue, clock, metrics = make()
    queue.add(A)
    clock.advance(3)
    take(queue)
    clock.advance(2)
    assert queue.longest_running() == 2
    assert queue.unfinished() == 2
    queue.retry(A)
    queue.done(A)
    text = metrics.render().decode()
    for line in (
        'workqueue_depth{name="reconcile"} 0.0',
        'workqueue_adds_total{name="reconcile"} 1.0',
        'workqueue_retries_total{name="reconcile"} 1.0',
        'workqueue_queue_duration_seconds_sum{name="reconcile"} 3.0',
        'workqueue_work_duration_seconds_sum{name="reconcile"} 2.0',
    ):
        assert line in text


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "defer", "after", "retry", "take", "done", "tick"]),
            st.sampled_from([A, B]),
        )
    )
)
def test_no_wish_is_lost_and_no_key_is_worked_on_twice_at_once(steps: list[tuple[str, Key]]) -> None:
    queue, clock, _ = make(spacing=0.05)
    working: set[Key] = set()
    wished: set[Key] = set()
    for action, key in steps:
        if action == "add":
            queue.add(key)
            wished.add(key)
        elif action == "defer":
            queue.defer(key)
            wished.add(key)
        elif action == "after":
            queue.add_after(key, 1.0)
            wished.add(key)
        elif action == "retry":
            queue.retry(key)
            wished.add(key)
        elif action == "take" and len(queue):
            taken = take(queue)
            assert taken is not None
            assert taken not in working
            working.add(taken)
            wished.discard(taken)
        elif action == "done" and key in working:
            working.discard(key)
            queue.done(key)
        else:
            clock.advance(0.3)
    for key in working:
        queue.done(key)
    seen: set[Key] = set()
    for _ in range(20):
        clock.advance(2000)
        while len(queue):
            taken = take(queue)
            assert taken is not None
            seen.add(taken)
            queue.done(taken)
    assert wished <= seen
