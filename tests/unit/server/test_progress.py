"""When a computation counts as one that hangs."""

from __future__ import annotations

import pytest
from modelyard_server.batching.progress import FACTOR, PATIENCE, Progress


class Clock:
    """Seconds, as the test sets them."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_computes_nothing_never_hangs(clock: Clock) -> None:
    progress = Progress(clock)
    clock.now += 1e9
    assert progress.explain_hang() is None
    progress.begin(5)
    progress.end()
    progress.end()
    clock.now += 1e9
    assert progress.explain_hang() is None


def test_a_computation_has_the_patience_that_slow_machines_need(clock: Clock) -> None:
    progress = Progress(clock)
    progress.begin(256)
    clock.now += PATIENCE
    assert progress.explain_hang() is None
    clock.now += 1
    assert (
        progress.explain_hang() == "the model hangs: it has computed 256 tokens for 301 s, and may take 300 s"
    )


def test_a_model_that_was_slow_may_be_as_slow_again_and_more_so_with_more_tokens(clock: Clock) -> None:
    progress = Progress(clock)
    for tokens, seconds in ((10, 20.0), (1000, 200.0)):  # 2 s a token is the worst of them
        progress.begin(tokens)
        clock.now += seconds
        progress.end()
    progress.begin(100)
    clock.now += FACTOR * 2 * 100
    assert progress.explain_hang() is None
    clock.now += 1
    assert "for 2001 s, and may take 2000 s" in str(progress.explain_hang())


def test_each_computation_is_measured_by_itself(clock: Clock) -> None:
    progress = Progress(clock)
    for _ in range(5):
        progress.begin(1000)
        clock.now += PATIENCE - 1
        assert progress.explain_hang() is None
        progress.begin(1000)  # as after a batch that failed


def test_who_was_told_of_a_hang_is_told_of_it_for_good(clock: Clock) -> None:
    progress = Progress(clock)
    progress.begin(1)
    clock.now += PATIENCE + 1
    told = progress.explain_hang()
    progress.end()
    assert told is not None and progress.explain_hang() == told
