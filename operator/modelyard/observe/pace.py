"""How often to ask: pods as often as they shall be, but less where they are many; the API server while it has news."""

from __future__ import annotations

from modelyard.engine.probe import Probe

INTERVAL = 2.0  # seconds between two questions to a pod that has no interval of its own
BUDGET = 50.0  # questions per second over all pods
LONGEST = 30.0  # seconds between two questions to a pod that does not answer
EVENT_INTERVAL = 5.0  # seconds between the first two questions to the API server
EVENT_LONGEST = 60.0  # seconds between two questions whose answers stay the same


class Pace:
    """Shares the budget among the pods that are asked: each waits so many times longer as all together are too many."""

    def __init__(self, budget: float = BUDGET) -> None:
        self._budget = budget
        self._load = 0.0  # questions per second that are wished for
        self.pods = 0

    def begin(self, probe: Probe) -> None:
        """One more to ask."""
        self.pods += 1
        self._load += 1 / probe.interval

    def end(self, probe: Probe) -> None:
        """One less."""
        self.pods -= 1
        # Sums of fractions drift; none is exactly zero.
        self._load = self._load - 1 / probe.interval if self.pods else 0.0

    def interval(self, probe: Probe | None = None) -> float:
        """Seconds between two questions to a pod at present."""
        own = probe.interval if probe is not None else INTERVAL
        return own * max(1.0, self._load / self._budget)

    def after(self, probe: Probe, failures: int, took: float) -> float:
        """Seconds until the next question, after one that took so many seconds; `failures` are those in a row."""
        interval = self.interval(probe)
        if failures:
            return min(interval * 2.0 ** min(failures, 4), max(LONGEST, interval))
        # An answer that was held back has had its interval already.
        return max(0.0, interval - took) if probe.wait else interval


def pause(failures: int, repeats: int) -> float:
    """Seconds until the API server is asked again, after so many failures, or the same answers, in a row."""
    return min(EVENT_INTERVAL * 2.0 ** min(max(failures, repeats), 4), EVENT_LONGEST)
