"""Figures are computed from all samples, as another program computes them; a failure is an error of the row."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.serving.load import Own, Result
from tests.bench.serving.protocols import Tokens
from tests.bench.serving.samples import Samples
from tests.bench.serving.summary import count_answers, count_tokens, percentiles, summarise
from tests.bench.serving.wire import Answer, Failure

IDLE = Own(10.0, 1.0, 0.1)


def result(
    *requests: tuple[float, float], tokens: Tokens | None = None, own: Own = IDLE, sent_late: float = 0
) -> Result:
    """Right answers to requests that were due and ended at these times; the window is 10 to 20."""
    made = Result((10.0, 20.0), Samples(), [own])
    for due, ended in requests:
        answer = Answer()
        answer.first = answer.last = ended
        made.samples.add(0, due, due + sent_late, answer, tokens)
    return made


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_percentiles_are_numpys(values: list[float]) -> None:
    row = percentiles("ms", values)
    for percent in (50, 95, 99):
        expected: np.float64 = np.percentile(values, percent, method="inverted_cdf")
        assert row[f"p{percent} ms"] == round(float(expected), 3)
    assert row["max ms"] == round(max(values), 3)


def test_a_window_counts_what_was_due_in_it_and_rates_what_ended_in_it() -> None:
    ended_only, due_only = ((9.0, 11.0), (9.7, 12.0)), (19.0, 22.0)
    row = summarise(result(*ended_only, (9.5, 9.9), (10.0, 10.5), due_only, (20.0, 20.1)))
    assert row["requests"] == 2
    assert row["req/s"] == 0.3
    assert (row["p50 ms"], row["max ms"]) == (500.0, 3000.0)
    assert "error" not in row and "bottleneck" not in row


def test_failures_are_counted_by_kind_and_are_an_error_also_in_the_warm_up() -> None:
    made = result((11.0, 11.5), (12.0, 12.5))
    made.samples.add_failure(0, 9.0, 9.0, 9.1, Failure("refused", "nobody | listens"))
    made.samples.add_failure(0, 13.0, 13.0, 19.0, Failure("wrong", "a is b"))
    made.samples.add_failure(0, 14.0, 14.0, 19.5, Failure("wrong", "a is c"))
    row = summarise(made)
    assert row["failed"] == {"refused": 1, "wrong": 2}
    assert row["error"] == "3 of 5 requests failed (2 wrong, 1 refused), first: nobody / listens"
    assert (row["req/s"], row["max ms"]) == (0.2, 500.0)


def test_a_load_without_an_answer_is_an_error() -> None:
    assert summarise(result())["error"] == "no request was answered in the measured time"


def test_a_busy_load_generator_is_named_whether_it_works_or_waits() -> None:
    busy = summarise(result((11.0, 12.0), own=Own(10.0, 9.5, 0.1)))
    assert busy["bottleneck"] == "the load generator: 95% of a CPU, 1% waiting for one"
    waiting = summarise(result((11.0, 12.0), own=Own(10.0, 3.0, 6.5)))
    assert waiting["bottleneck"] == "the load generator: 30% of a CPU, 65% waiting for one"
    two = result((11.0, 12.0))
    two.own.append(Own(10.0, 9.9, 0.0))
    row = summarise(two)
    assert (row["own CPU s"], row["own CPU %"]) == (10.9, 99) and "bottleneck" in row


def test_requests_that_were_sent_late_are_told_and_spoil_the_row_when_it_matters() -> None:
    little = summarise(result((11.0, 12.0), sent_late=0.01))
    assert little["sent late p99 ms"] == pytest.approx(10.0) and "bottleneck" not in little
    much = summarise(result((11.0, 12.0), sent_late=0.5))
    assert much["bottleneck"] == "the load generator: 500.0 ms late at p99"


def test_tokens_of_a_stream_count_when_they_came() -> None:
    # Of ten tokens a second from 8 to 16 those from 10 on; of one from 18 to 22 those until 20.
    made = result((8.0, 16.0), tokens=Tokens(8.0, 16.0, 81))
    for part in (
        result((18.0, 22.0), tokens=Tokens(18.0, 22.0, 41)),
        result((12.0, 15.0), tokens=Tokens(13.0, 13.0, 1)),
    ):
        made.samples.values.extend(part.samples.values)
    assert count_tokens(made) == pytest.approx(60 + 1 + 20 + 1)
    assert count_answers(made) == 2
    assert count_tokens(result((11.0, 12.0), tokens=Tokens(math.nan, math.nan, 20))) == 20
    assert count_tokens(result((19.0, 21.0), tokens=Tokens(math.nan, math.nan, 20))) == 0


def test_small_rates_keep_their_digits() -> None:
    made = result((11.0, 12.0))
    made.window = (10.0, 32.5)
    assert summarise(made)["req/s"] == 0.04444


def test_tokens_have_a_rate_a_first_and_a_distance() -> None:
    row = summarise(result((11.0, 15.0), (12.0, 15.0), tokens=Tokens(13.0, 14.8, 10)))
    assert row["tokens/s"] == 2.0
    assert (row["p50 TTFT ms"], row["max TTFT ms"]) == (1000.0, 2000.0)
    assert row["p50 ms/token"] == 200.0
    assert "tokens by" not in row
    counted = summarise(result((11.0, 15.0), tokens=Tokens(13.0, 14.0, 1, counted=True)))
    assert "told no usage" in counted["tokens by"] and "p50 ms/token" not in counted
    whole = summarise(result((11.0, 15.0), tokens=Tokens(math.nan, math.nan, 20)))
    assert whole["tokens/s"] == 2.0 and "p50 TTFT ms" not in whole
