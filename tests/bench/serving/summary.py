"""What a table says of a load: percentiles of all samples by nearest rank, rates of the measured window, failures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from tests.bench.burst import quantile
from tests.bench.sections import Row
from tests.bench.serving.load import Own, Result
from tests.bench.serving.samples import Sample
from tests.bench.serving.wire import KINDS

# Above this share of one CPU, used or waited for, the figures are the load generator's.
BUSY = 0.9
# Above this share of the p99 of latency, so is the time for which an open loop's requests waited to be sent.
LATE = 0.2


def summarise(result: Result) -> Row:
    """One row: rates, milliseconds, failures by kind, the generator's own CPU.

    Latencies are of right answers to requests that were due in the window, from when they were due. Rates are of what
    ended in it, whenever it began: as much is under way at its end as was at its begin. Tokens of streams count
    when they came. A row with a failure has an `error`; one whose load generator was at its limit says so under
    `bottleneck`.
    """
    start, end = result.window
    samples = list(result.samples)
    measured = [sample for sample in samples if start <= sample.intended < end]
    right = [sample for sample in measured if not sample.kind]
    row: Row = {
        "requests": len(measured),
        "req/s": _round(count_answers(result) / (end - start)) if end > start else None,
    }
    row |= percentiles("ms", (sample.milliseconds for sample in right))
    if any(sample.tokens for sample in right):
        row |= _tokens(right, count_tokens(result) / (end - start))
    row |= describe_own(result.own)
    late = [(sample.sent - sample.intended) * 1e3 for sample in measured]
    if any(late):
        row["sent late p99 ms"] = round(quantile(late, 99), 3)
        if right and row["sent late p99 ms"] > LATE * row["p99 ms"]:
            row["bottleneck"] = f"the load generator: {row['sent late p99 ms']} ms late at p99"
    # Those of the warm-up too: a server that answers wrongly is no better for doing it early.
    failed = Counter(KINDS[int(sample.kind) - 1] for sample in samples if sample.kind)
    if failed:
        row["failed"] = dict(failed)
        kinds = ", ".join(f"{number} {kind}" for kind, number in failed.most_common())
        words = result.samples.failures[0][2]
        row["error"] = (
            f"{failed.total()} of {len(samples)} requests failed ({kinds}), first: {words}".replace("|", "/")
        )
    elif not right:
        row["error"] = "no request was answered in the measured time"
    return row


def count_answers(result: Result) -> int:
    """Right ones that ended in the window."""
    start, end = result.window
    return sum(1 for sample in result.samples if not sample.kind and start < sample.ended <= end)


def count_tokens(result: Result) -> float:
    """Of right answers, those that came in the window; of a stream they come evenly from its first to its last."""
    start, end = result.window
    found = 0.0
    for sample in result.samples:
        if sample.kind or not sample.tokens:
            continue
        length = sample.last_token - sample.first_token
        if math.isnan(length) or not length:
            found += sample.tokens * (start < sample.ended <= end)
            continue
        found += start < sample.first_token <= end
        inside = min(end, sample.last_token) - max(start, sample.first_token)
        found += (sample.tokens - 1) * max(0.0, inside) / length
    return found


def percentiles(unit: str, values: Iterable[float], percents: tuple[int, ...] = (50, 95, 99)) -> Row:
    """p50, p95, p99 and max, each of them a measured value; empty without values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    row = {f"p{percent} {unit}": round(quantile(ordered, percent), 3) for percent in percents}
    return row | {f"max {unit}": round(ordered[-1], 3)}


def describe_own(own: Iterable[Own]) -> Row:
    """The load generator's CPU: share of one, of the busiest of its processes, and seconds waited for one."""
    shares = [(one.cpu / one.seconds, one.waited / one.seconds) for one in own if one.seconds > 0]
    if not shares:
        return {}
    cpu, waited = max(shares, key=sum)
    row: Row = {"own CPU s": round(sum(one.cpu for one in own), 2), "own CPU %": round(100 * cpu)}
    if cpu + waited >= BUSY:
        row["bottleneck"] = f"the load generator: {cpu:.0%} of a CPU, {waited:.0%} waiting for one"
    return row


def _tokens(right: list[Sample], rate: float) -> Row:
    # Time per output token: from the first to the last, over those after the first.
    first = [sample for sample in right if not math.isnan(sample.first_token)]
    between = [
        (sample.last_token - sample.first_token) * 1e3 / (sample.tokens - 1)
        for sample in first
        if sample.tokens > 1
    ]
    row: Row = {"tokens/s": _round(rate)}
    row |= percentiles("TTFT ms", ((s.first_token - s.intended) * 1e3 for s in first), (50, 99))
    row |= percentiles("ms/token", between, (50, 99))
    if any(sample.counted for sample in right):
        row["tokens by"] = "pieces: the server told no usage"
    return row


def _round(rate: float) -> float:
    """Four digits, whatever its size: ratios are computed from it."""
    return float(f"{rate:.4g}")
