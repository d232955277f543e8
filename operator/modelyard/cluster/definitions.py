"""Which CustomResourceDefinitions come and change: told to those who wait for a kind that is not served yet.

One watch over all of them, of their metadata only, and only while there are optional kinds. Where that is not allowed
(an operator with Roles in some namespaces), those who wait look again every few minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable

from modelyard.cluster.client import Client
from modelyard.engine.errors import ClusterError, Refused
from modelyard.engine.kinds import Kind

log = logging.getLogger(__name__)

CRD = Kind("CustomResourceDefinition", "apiextensions.k8s.io", "v1", "customresourcedefinitions")
# Seconds from one look for a kind that is not served to the next, doubled from look to look.
FIRST_LOOK = 0.25
LOOKS = 9  # so many of them, over two minutes; then only a sign is waited for
LOOK_AGAIN = 300.0  # seconds between two looks where there will be no signs
FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0
WATCH_SECONDS = 600


class Definitions:
    """Signs of optional kinds that come. `serves(kind, present)` is told which of them are there."""

    def __init__(self, client: Client, kinds: Iterable[Kind], serves: Callable[[str, bool], None]) -> None:
        self._client = client
        self._signs = {_name(kind): asyncio.Event() for kind in kinds if kind.optional}
        self._misses: dict[str, int] = {}
        self._followed = True
        self.serves = serves

    async def wait(self, kind: Kind) -> None:
        """Returns when it is worth looking for the kind again.

        At once after a sign, and then less and less often: a definition is there some time before it is served.
        """
        name = _name(kind)
        misses = self._misses.get(name, 0)
        self._misses[name] = misses + 1
        delay: float | None = FIRST_LOOK * 2.0**misses
        if misses >= LOOKS:
            delay = None if self._followed else LOOK_AGAIN
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._signs[name].wait(), delay)
            self._misses[name] = 0
        self._signs[name].clear()

    async def run(self) -> None:
        """Follows the definitions until cancelled; ends where there is nothing to wait for, or that is not allowed."""
        failures = 0
        while self._signs:
            try:
                # Without a version the watch begins with all that there are: nobody waits for one that has come before.
                watch = self._client.watch(
                    CRD, None, None, version=None, seconds=WATCH_SECONDS, metadata_only=True
                )
                async with contextlib.aclosing(watch) as events:
                    async for event in events:
                        failures = 0
                        self._heed(event)
            except Refused as error:
                log.info("definitions are not followed", extra={"detail": str(error)})
                self._followed = False
                return
            except ClusterError as error:
                failures += 1
                log.info("watch repeated", extra={"kind": CRD.name, "detail": str(error)})
            delay = min(FIRST_DELAY * 2.0 ** min(failures, 10), LONGEST_DELAY)
            await asyncio.sleep(delay * (0.5 + random.random()))  # noqa: S311 - jitter

    def _heed(self, event: dict[str, object]) -> None:
        obj = event.get("object")
        if event.get("type") in ("ADDED", "MODIFIED") and isinstance(obj, dict):
            sign = self._signs.get(str(obj["metadata"]["name"]))
            if sign is not None:
                sign.set()


def _name(kind: Kind) -> str:
    """That of its definition."""
    return f"{kind.plural}.{kind.group}"
