"""What is said of a resource: its status, written when it is time to, and the Events that tell of the change."""

from __future__ import annotations

import logging
from collections.abc import Callable

from modelyard.engine.cache import Cache
from modelyard.engine.errors import AlreadyExists, NotFound, Refused
from modelyard.engine.events import build_event
from modelyard.engine.kinds import Kinds
from modelyard.engine.plan import Event, Key, Manifest, Plan
from modelyard.engine.ports import Clock, Cluster, Observer
from modelyard.engine.status import StatusWriter

log = logging.getLogger(__name__)


class Reporter:
    """Writes statuses and Events. `wrote` is told of each answer to a status, for which resource it was."""

    def __init__(
        self,
        *,
        kinds: Kinds,
        cache: Cache,
        cluster: Cluster,
        clock: Clock,
        observer: Observer,
        wrote: Callable[[Key, Manifest], None],
    ) -> None:
        self._kinds = kinds
        self._cache = cache
        self._cluster = cluster
        self._clock = clock
        self._observer = observer
        self._wrote = wrote
        self._statuses = StatusWriter()

    def forget(self, key: Key) -> None:
        """The resource is gone."""
        self._statuses.forget(key)

    async def report(self, key: Key, resource: Manifest, plan: Plan) -> tuple[bool, float | None]:
        """Writes the status if it is time to.

        Returns whether it did, and else how long to wait, if at all.
        """
        # Others may have changed the resource while children were written; its version names the Events.
        resource = self._cache.get(key) or resource
        now = self._clock.monotonic()
        decision = self._statuses.decide(key, resource, plan, now)
        if decision.status is None:
            return False, decision.wait
        kind = self._kinds[key.kind]
        for event in plan.events:
            await self._tell(key, resource, event)
        manifest = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            # The uid keeps the status of a deleted resource from going to a new one of the same name.
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": resource["metadata"]["uid"]},
            "status": decision.status,
        }
        try:
            answer = await self._cluster.apply_status(manifest)
        except Refused as error:
            return False, await self._explain_refused_status(key, resource, error, now)
        self._observer.wrote(key.kind, "status")
        self._observer.reported(key, resource, decision.status)
        self._statuses.written(key, decision.status, answer.get("status") or {}, now)
        self._wrote(key, answer)
        return True, None

    async def _explain_refused_status(
        self, key: Key, resource: Manifest, error: Refused, now: float
    ) -> float:
        """Says it where operators and users look. Returns the seconds until the next try."""
        wait, is_news = self._statuses.refused(key, str(error), now)
        self._observer.refused(key.kind, "status")
        log.error(
            "status refused",
            extra={"key": str(key), "reason": error.reason, "detail": str(error), "wait": wait},
        )
        if is_news:
            text = f"The API server refuses the status, which therefore stands still: {error}"
            await self._tell(key, resource, Event("Warning", "StatusRefused", text))
        return wait

    async def _tell(self, key: Key, resource: Manifest, event: Event) -> None:
        """No Event is worth holding up the status."""
        manifest = build_event(event, resource, self._kinds[key.kind], self._clock.now())
        try:
            await self._cluster.create_event(manifest)
            self._observer.wrote("Event", "event")
        except AlreadyExists:
            pass
        except (NotFound, Refused) as error:
            log.warning(
                "event refused", extra={"key": str(key), "reason": event.reason, "detail": str(error)}
            )
