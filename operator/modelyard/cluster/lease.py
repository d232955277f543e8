"""Leader election by a Lease: one process writes, others wait with a filled cache.

As client-go does it, times are taken from the local monotonic clock only: a standby takes the Lease when its
record has not changed for the Lease's duration, whatever the clocks of others say. The holder stops itself
well before that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from modelyard.engine.errors import AlreadyExists, ClusterError, Conflict, NotFound
from modelyard.engine.kinds import Kind
from modelyard.engine.plan import Manifest

log = logging.getLogger(__name__)

LEASE = Kind("Lease", "coordination.k8s.io", "v1", "leases")
DURATION = 15.0
RENEW_DEADLINE = 10.0
RETRY_PERIOD = 2.0
# A standby asks twice as often as a holder renews, so that a released Lease is taken over within a second.
STANDBY_PERIOD = 1.0


class LeaseApi(Protocol):
    """The calls that the election needs."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        """One object."""

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Creates an object."""

    async def replace(self, kind: Kind, manifest: Manifest, timeout: float | None = None) -> Manifest:
        """Replaces an object of a known version."""


class Election:
    """One process's part in the election. `clock` is monotonic seconds."""

    def __init__(
        self,
        api: LeaseApi,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._sleep = sleep
        self._lease: Manifest | None = None
        self._changed_at = 0.0
        self._renewed_at = float("-inf")

    def held(self) -> bool:
        """Whether this process may write now."""
        return self._clock() < self._renewed_at + RENEW_DEADLINE

    async def acquire(self) -> None:
        """Waits until the Lease is ours."""
        while not await self._try():
            await self._sleep(STANDBY_PERIOD)
        log.info("leading", extra={"lease": f"{self._namespace}/{self._name}", "identity": self._identity})

    async def keep(self) -> None:
        """Renews the Lease; returns only when it is lost."""
        while True:
            await self._sleep(RETRY_PERIOD)
            await self._try()
            if not self.held():
                log.error("the Lease is lost", extra={"lease": f"{self._namespace}/{self._name}"})
                return
            if self._lease is not None and self._holder(self._lease) != self._identity:
                self._renewed_at = float("-inf")
                log.error("the Lease was taken", extra={"by": self._holder(self._lease)})
                return

    async def release(self) -> None:
        """Gives the Lease back, so that a successor need not wait for it to expire."""
        if not self.held() or self._lease is None:
            return
        self._renewed_at = float("-inf")
        spec = self._lease["spec"] | {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        try:
            await self._api.replace(LEASE, self._lease | {"spec": spec}, timeout=2.0)
            log.info("Lease released", extra={"lease": f"{self._namespace}/{self._name}"})
        except ClusterError as error:
            log.warning("Lease not released", extra={"detail": str(error)})

    async def _try(self) -> bool:
        """Takes or renews the Lease where that is due. Returns whether it is ours now."""
        before = self._clock()
        try:
            async with asyncio.timeout(RENEW_DEADLINE / 2):
                return await self._take_or_renew(before)
        except (AlreadyExists, Conflict):
            self._lease = None  # somebody else was quicker; look again next time
        except (ClusterError, TimeoutError) as error:
            log.warning("Lease not reached", extra={"detail": str(error)})
        return False

    async def _take_or_renew(self, before: float) -> bool:
        if self._lease is None or self._holder(self._lease) != self._identity:
            if not await self._look():
                self._store(await self._api.create(LEASE, self._fresh()), before)
                return True
            assert self._lease is not None  # noqa: S101 - _look has set it
            if self._holder(self._lease) not in ("", self._identity) and not self._expired(self._lease):
                return False
        spec: dict[str, Any] = dict(self._lease["spec"])
        if spec.get("holderIdentity") != self._identity:
            spec["acquireTime"] = _now()
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        spec |= {"holderIdentity": self._identity, "leaseDurationSeconds": int(DURATION), "renewTime": _now()}
        # Only the last attempt's own time limit counts: a renewal that hangs must not outlast the deadline.
        self._store(
            await self._api.replace(LEASE, self._lease | {"spec": spec}, timeout=RETRY_PERIOD * 2), before
        )
        return True

    async def _look(self) -> bool:
        try:
            lease = await self._api.get(LEASE, self._namespace, self._name)
        except NotFound:
            self._lease = None
            return False
        if self._lease is None or _record(lease) != _record(self._lease):
            self._changed_at = self._clock()
        self._lease = lease
        return True

    def _store(self, lease: Manifest, before: float) -> None:
        # Counted from before the call: the server's idea of when it was renewed is later than that.
        self._lease = lease
        self._renewed_at = before

    def _expired(self, lease: Manifest) -> bool:
        return self._clock() >= self._changed_at + float(
            lease["spec"].get("leaseDurationSeconds") or DURATION
        )

    def _fresh(self) -> Manifest:
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(DURATION),
                "acquireTime": _now(),
                "renewTime": _now(),
                "leaseTransitions": 0,
            },
        }

    @staticmethod
    def _holder(lease: Manifest) -> str:
        return str((lease.get("spec") or {}).get("holderIdentity") or "")


def _record(lease: Manifest) -> tuple[Any, Any]:
    spec = lease.get("spec") or {}
    return spec.get("holderIdentity"), spec.get("renewTime")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
