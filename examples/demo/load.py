"""Load on the served model, from this process: so many callers at once, and what they get while servers are added."""

from __future__ import annotations

import http.client
import itertools
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from examples.demo.serve import DEPLOYMENT, Endpoint, ask
from examples.demo.shell import DemoError, Kubectl

# Seconds between two lines, with all servers that may come, and at most.
INTERVAL, STEADY, LONGEST = 3.0, 12.0, 90.0
HEAD = f"{'seconds':>11}  {'servers':>7}  {'requests/s':>10}  {'p50 ms':>7}  {'p95 ms':>7}  {'failed':>6}"


@dataclass(frozen=True)
class Sample:
    """One request: seconds it took, and why it failed if it did."""

    seconds: float
    error: str | None = None


class Load:
    """Callers, each of which asks again as soon as it has its answer."""

    def __init__(self, endpoint: Endpoint, texts: Sequence[str]) -> None:
        self._endpoint = endpoint
        self._texts = itertools.cycle(texts)
        self._lock = threading.Lock()
        self._samples: list[Sample] = []
        self._end = threading.Event()
        self._callers = [threading.Thread(target=self._call, daemon=True) for _ in range(endpoint.clients)]

    def __enter__(self) -> Load:
        for caller in self._callers:
            caller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for caller in self._callers:
            caller.join()

    def take(self) -> list[Sample]:
        """What has ended since the last time."""
        with self._lock:
            taken, self._samples = self._samples, []
        return taken

    def _call(self) -> None:
        connection = http.client.HTTPConnection(self._endpoint.host, self._endpoint.port, timeout=60)
        while not self._end.is_set():
            with self._lock:
                text = next(self._texts)
            start, error = time.monotonic(), None
            try:
                ask(connection, self._endpoint.path, text)
            except (OSError, http.client.HTTPException, ValueError) as failure:
                error = f"{type(failure).__name__}: {failure}"
                connection.close()
            with self._lock:
                self._samples.append(Sample(time.monotonic() - start, error))
            if error:
                self._end.wait(0.2)
        connection.close()


def percentile(values: Sequence[float], share: float) -> float:
    """By the nearest rank: the least value that so large a share of all does not exceed. NaN of none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else math.nan


def format_line(at: float, seconds: float, servers: str, samples: Sequence[Sample]) -> str:
    """What callers got in the last `seconds`."""
    good = [1000 * sample.seconds for sample in samples if sample.error is None]
    p50, p95 = percentile(good, 0.5), percentile(good, 0.95)
    failed = len(samples) - len(good)
    rate = len(good) / seconds
    return f"{at:11.0f}  {servers:>7}  {rate:10.1f}  {p50:7.0f}  {p95:7.0f}  {failed:6}"


def show(kube: Kubectl, endpoint: Endpoint, texts: Sequence[str]) -> None:
    """A line every three seconds, until all servers have answered for a while. Raises DemoError if a request fails."""
    print(HEAD, flush=True)
    begin = now = time.monotonic()
    full: float | None = None
    errors: list[str] = []
    with Load(endpoint, texts) as load:
        while now - begin < LONGEST and (full is None or now - full < STEADY):
            time.sleep(INTERVAL)
            ready, wanted, most = count_servers(kube)
            samples, last, now = load.take(), now, time.monotonic()
            if full is None and ready >= most:
                full = now
            errors += find_errors(samples)
            print(format_line(now - begin, now - last, f"{ready}/{wanted}", samples), flush=True)
    errors += find_errors(load.take())  # of those that were still under way
    if errors:
        raise DemoError(f"{len(errors)} requests failed under load, the first one with {errors[0]}")


def find_errors(samples: Sequence[Sample]) -> list[str]:
    """The words of those that failed."""
    return [sample.error for sample in samples if sample.error]


def count_servers(kube: Kubectl) -> tuple[int, int, int]:
    """Those that are ready, that are asked for, and that may be."""
    found = kube.get("modeldeployment", DEPLOYMENT)
    if found is None:
        raise DemoError(f"the ModelDeployment {DEPLOYMENT} was deleted under load; run the demo again")
    status = found["status"]
    most: int = found["spec"]["scaling"]["maxReplicas"]
    return status.get("readyReplicas", 0), status.get("replicas", 0), most
