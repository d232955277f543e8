"""Workers that take keys from the queue and reconcile them, and what happens when that fails."""

from __future__ import annotations

import asyncio
import logging

from modelyard.engine.cache import Cache
from modelyard.engine.errors import (
    ClusterError,
    Conflict,
    Ending,
    NotFound,
    NotLeader,
    Throttled,
    Unavailable,
)
from modelyard.engine.guard import Guard
from modelyard.engine.kinds import Kinds
from modelyard.engine.plan import Key, Manifest
from modelyard.engine.ports import Clock, Observer
from modelyard.engine.queue import WorkQueue
from modelyard.engine.reconciler import Reconciler, Result
from modelyard.engine.urgency import Urgency

log = logging.getLogger(__name__)

# A refused child is tried again at least this often: quotas are freed by others, of which no watch tells.
REFUSED_RETRY = 60.0
# What is waited for is told by a watch; this is for a lost event.
WAIT_RETRY = 30.0
# A plan that asks to be looked at again at once has no reason that a watch would not tell of.
SHORTEST_REQUEUE = 0.5
# An object that changed no more for so long is packed. In a burst all that is younger lies unpacked, and the
# process never gives back what that took.
REST_AFTER = 3.0


class Controller:
    """Turns what the watches say into passes."""

    def __init__(
        self,
        *,
        kinds: Kinds,
        cache: Cache,
        guard: Guard,
        queue: WorkQueue,
        reconciler: Reconciler,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._kinds = kinds
        self._cache = cache
        self._guard = guard
        self._queue = queue
        self._reconciler = reconciler
        self._clock = clock
        self._observer = observer
        self._started = False
        self._tasks: list[asyncio.Task[None]] = []

    def observe(self, event: str | None, obj: Manifest) -> None:
        """Takes in one event of a watch. O(1); `event` is None for objects of a listing."""
        concerned = self._guard.observe(event, obj, at_rest=not self._started)
        if self._started:
            for key in concerned:
                self._queue.add(key)

    def gone(self, key: Key) -> None:
        """A listing shows that an object is gone; the watch had missed it."""
        obj = self._cache.get(key)
        if obj is not None:
            self.observe("DELETED", obj)

    def serves(self, kind: str, present: bool) -> None:
        """An optional kind has come or gone. Its objects, if any were left, are told of as gone."""
        served = self._cache.served | {kind} if present else self._cache.served - {kind}
        if served != self._cache.served:
            log.info("optional kind has come" if present else "optional kind has gone", extra={"kind": kind})
            self._cache.served = served
            if self._started:
                self.enqueue_all()

    def enqueue_all(self) -> None:
        """Looks at every resource again: at the start, and when settings or the cluster's kinds have changed.

        Those that wait for something come first, and what becomes new meanwhile comes before those at rest.
        """
        keys = [key for kind in self._kinds if kind.owner_label for key in self._cache.keys(kind.name)]
        urgencies = {key: self._cache.urgency(key) for key in keys}
        for key in sorted(keys, key=urgencies.__getitem__):  # stable: else as they came
            if urgencies[key] is Urgency.AT_REST:
                self._queue.defer(key, until_event=True)
            else:
                self._queue.add(key)

    def start(self, workers: int) -> None:
        """Begins to reconcile. The cache must be filled by now, or children would be taken for missing."""
        self._started = True
        self.enqueue_all()
        self._tasks = [asyncio.create_task(self._work(), name=f"worker-{n}") for n in range(workers)]
        self._clock.call_later(REST_AFTER, self._rest)

    async def stop(self, timeout: float) -> None:
        """Lets passes that run finish; those that take longer than `timeout` seconds are cut off."""
        self._started = False
        self._queue.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _work(self) -> None:
        while (key := await self._queue.get()) is not None:
            try:
                await self.process(key)
            finally:
                self._queue.done(key)

    async def process(self, key: Key) -> None:
        """One pass, and what follows from how it ended. Never raises."""
        started = self._clock.monotonic()
        outcome = "error"
        try:
            result = await self._reconciler.reconcile(key)
            outcome = result.outcome
            self._follow(key, result)
        except Throttled as error:
            log.info(
                "the API server asks to slow down", extra={"key": str(key), "seconds": error.retry_after}
            )
            self._queue.add_after(key, error.retry_after)
        except NotLeader:
            pass  # the process is about to end
        except (Ending, NotFound, Conflict, Unavailable) as error:
            # Races with others, or a server in trouble: expected now and then, and cured by looking again.
            log.info(
                "pass repeated", extra={"key": str(key), "error": type(error).__name__, "detail": str(error)}
            )
            self._queue.retry(key, at_most=REFUSED_RETRY)
        except ClusterError as error:
            log.error(
                "pass failed", extra={"key": str(key), "error": type(error).__name__, "detail": str(error)}
            )
            self._queue.retry(key)
        except Exception:
            log.exception("pass failed", extra={"key": str(key)})
            self._queue.retry(key)
        self._observer.reconciled(key, self._clock.monotonic() - started, outcome)

    def _follow(self, key: Key, result: Result) -> None:
        if result.outcome == "gone":
            self._queue.drop(key)
            return
        if result.outcome == "refused":
            self._queue.retry(key, at_most=REFUSED_RETRY)
        elif result.outcome == "waiting":
            self._queue.retry(key, at_most=WAIT_RETRY)
        else:
            self._queue.forget(key)
        if result.deferred:
            self._queue.defer(key)
        elif result.again:
            self._queue.add(key)
        elif result.requeue_after is not None:
            self._queue.add_after(key, max(result.requeue_after, SHORTEST_REQUEUE))

    def _rest(self) -> None:
        self._cache.rest(self._clock.monotonic() - REST_AFTER)
        if self._started:
            self._clock.call_later(REST_AFTER / 2, self._rest)
