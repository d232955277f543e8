"""A kind's objects, listed once and then followed.

The children of custom resources are most of what an operator is told of. This is the least that must be done
with each event: one parse, one call. What it hands on is complete: after a listing whatever it did not name
is gone, and `synced` is true from the end of the first listing on. A kind that is optional may be served or not, and
that may change: what is not served has no objects.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

from modelyard.cluster.client import Client
from modelyard.cluster.definitions import Definitions
from modelyard.cluster.prune import prune
from modelyard.engine.cache import Cache
from modelyard.engine.errors import ClusterError, Expired, NotFound, Refused, Unavailable
from modelyard.engine.kinds import MANAGED_SELECTOR, Kind
from modelyard.engine.plan import Key, Manifest
from modelyard.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

# Seconds after which the server ends a watch; spread, so that watches do not all begin anew together.
SHORTEST_WATCH = 300
LONGEST_WATCH = 600
FIRST_DELAY = 0.2
LONGEST_DELAY = 30.0
# So many watches in a row that do not even begin: the version may be one that this server never had.
DOUBTFUL = 3
# A watch that says nothing and ends sooner than this (seconds) is not one.
SUSPICIOUS = 1.0


class WatchError(Exception):
    """The watches can't work; the message says what is missing."""


class Reflector:
    """One kind in one namespace (None: in all).

    `observe(event, object)` takes in everything, with the event None for objects of a listing; `gone(key)` takes in
    what a listing shows to be gone; `definitions` whether an optional kind is there. Reflectors that share `listing`
    list one after the other, so that there is one page in memory at a time.
    """

    def __init__(
        self,
        *,
        client: Client,
        kind: Kind,
        namespace: str | None,
        cache: Cache,
        observe: Callable[[str | None, Manifest], None],
        gone: Callable[[Key], None],
        definitions: Definitions,
        metrics: Metrics,
        listing: asyncio.Lock,
    ) -> None:
        self._client = client
        self._kind = kind
        self._namespace = namespace
        self._cache = cache
        self._observe = observe
        self._gone = gone
        self._definitions = definitions
        self._metrics = metrics
        self._listing = listing
        self._version: int | None = None
        self._failures = 0
        self._told = asyncio.Event()
        self._error: WatchError | None = None

    @property
    def synced(self) -> bool:
        """Whether everything that there was at the start has been handed on."""
        return self._told.is_set() and self._error is None

    async def wait_synced(self) -> None:
        """Returns at the end of the first listing. Raises WatchError where that is not allowed."""
        await self._told.wait()
        if self._error is not None:
            raise self._error

    async def run(self) -> None:
        """Follows the kind until cancelled; ends early only where the first listing is not allowed."""
        while self._error is None:
            try:
                if self._version is None:
                    await self._list()
                await self._follow()
            except Expired:
                self._version = None
                self._failures += 1
            except ClusterError as error:
                if isinstance(error, NotFound) and self._kind.optional:
                    self._miss()
                    await self._definitions.wait(self._kind)
                    continue
                if isinstance(error, (Refused, NotFound)) and not self.synced:
                    self._error = refusal(self._kind, error)
                    self._told.set()
                self._doubt(error)
            except Exception as error:
                log.exception("watch failed", extra={"kind": self._kind.name})
                self._version = None
                self._doubt(error)
            await self._pause()

    def _miss(self) -> None:
        """The kind is not served."""
        self._lose((), None)
        self._version = None
        self._failures = 0
        self._definitions.serves(self._kind.name, False)
        self._told.set()

    def _lose(self, uids: Iterable[str], version: int | None) -> None:
        """All but these are gone, if they are not newer than `version`."""
        for key in self._cache.missing_from(self._kind.name, uids, version, self._namespace):
            self._metrics.missed(self._kind.name)
            self._gone(key)

    def _doubt(self, error: Exception) -> None:
        self._failures += 1
        if self._failures >= DOUBTFUL:
            self._version = None
        details = {"kind": self._kind.name, "error": type(error).__name__, "detail": str(error)}
        log.info("watch repeated", extra=details)

    async def _pause(self) -> None:
        """Waits after failures; a watch that ended in good order goes on at once."""
        if self._failures:
            delay = min(FIRST_DELAY * 2.0 ** min(self._failures - 1, 10), LONGEST_DELAY)
            await asyncio.sleep(delay * (0.5 + random.random()))  # noqa: S311 - jitter

    async def _list(self) -> None:
        version = 0
        uids: set[str] = set()
        async with (
            self._listing,
            contextlib.aclosing(
                self._client.list_pages(self._kind, self._namespace, MANAGED_SELECTOR)
            ) as pages,
        ):
            async for page, page_version in pages:
                # What happens while the pages are read is told by a watch that begins at the first.
                version = version or page_version
                for obj in page:
                    uids.add(str(obj["metadata"]["uid"]))
                    self._take(None, obj)
                page.clear()
        self._lose(uids, version)
        self._version = version
        if self._kind.optional:
            self._definitions.serves(self._kind.name, True)
        self._told.set()

    async def _follow(self) -> None:
        seconds = random.randint(SHORTEST_WATCH, LONGEST_WATCH)  # noqa: S311 - jitter
        began, told = time.monotonic(), False
        async with contextlib.aclosing(
            self._client.watch(
                self._kind, self._namespace, MANAGED_SELECTOR, version=self._version or 0, seconds=seconds
            )
        ) as events:
            async for event in events:
                self._heed(event)
                self._failures, told = 0, True
        if not told and time.monotonic() - began < SUSPICIOUS:
            raise Unavailable("the watch ended as soon as it had begun")

    def _heed(self, event: dict[str, Any]) -> None:
        kind, obj = event["type"], event["object"]
        if kind == "ERROR":
            # In practice 410: the version is too old. Whatever else it may be, a listing is right after it.
            raise Expired(str(obj.get("message") or obj))
        if kind != "BOOKMARK":
            self._take(kind, obj)
        self._version = int(obj["metadata"]["resourceVersion"])

    def _take(self, event: str | None, obj: Manifest) -> None:
        obj["kind"], obj["apiVersion"] = self._kind.name, self._kind.api_version
        self._observe(event, prune(obj))


def refusal(kind: Kind, error: ClusterError) -> WatchError:
    """What to do where a kind can't be listed."""
    if isinstance(error, NotFound):
        return WatchError(
            f"the API server does not know {kind.plural} of {kind.api_version}: install "
            "the CustomResourceDefinitions (kubectl apply --server-side -f crds/, or the chart)"
        )
    return WatchError(f"may not list {kind.plural}: {error}. Grant list and watch on it.")
