"""The edge.

Kopf watches the custom resources, a reflector each child kind, and a barrier says when all is in.

kopf tells neither when a listing has ended nor, after a watch had to start over (410), what was deleted
meanwhile. So metadata-only listings of our own do: one at the start names what must arrive, and one after
each start-over names what is still there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

import kopf

from modelyard.cluster.client import Client
from modelyard.cluster.definitions import Definitions
from modelyard.cluster.login import Login
from modelyard.cluster.prune import prune
from modelyard.cluster.reflector import Reflector, WatchError, refusal
from modelyard.cluster.stateless import NoDiffBase, NoProgress
from modelyard.engine.cache import Cache
from modelyard.engine.errors import ClusterError, NotFound, Refused
from modelyard.engine.kinds import MANAGED_SELECTOR, Kind, Kinds
from modelyard.engine.plan import Key, Manifest
from modelyard.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

LOOK_EVERY = 0.05  # seconds between two looks at what is still missing
RELIST_AFTER = 3.0  # seconds after which what is missing is listed anew: it may be gone
RESYNC_DELAY = 1.0  # seconds in which the events of one start-over are taken together

CHUNK = 200  # objects of a listing in memory at once, per kind
_BULK = ("spec", "status", "data")


class Watches:
    """The watches of one operator.

    `observe(event, object)` takes in every event, `gone(key)` what a listing shows to be gone, `serves(kind, present)`
    which optional kinds there are.
    """

    def __init__(
        self,
        *,
        login: Login,
        client: Client,
        kinds: Kinds,
        namespaces: Sequence[str],
        cache: Cache,
        observe: Callable[[str | None, Manifest], None],
        gone: Callable[[Key], None],
        serves: Callable[[str, bool], None],
        metrics: Metrics,
    ) -> None:
        self._login = login
        self._client = client
        self._kinds = kinds
        self._namespaces: tuple[str | None, ...] = tuple(sorted(set(namespaces))) or (None,)
        self._cache = cache
        self._observe = observe
        self._gone = gone
        self._metrics = metrics
        self._complete: set[str] = set()
        self._resyncs: dict[str, asyncio.Task[None]] = {}
        self._primary = [kind for kind in kinds if kind.owner_label]
        listing = asyncio.Lock()
        definitions = self._definitions = Definitions(client, kinds, serves)
        self._reflectors = {
            kind.name: [
                Reflector(
                    client=client, kind=kind, namespace=namespace, cache=cache, observe=observe, gone=gone,
                    definitions=definitions, metrics=metrics, listing=listing,
                )
                for namespace in self._namespaces
            ]
            for kind in kinds
            if not kind.owner_label
        }  # fmt: skip
        for kind in kinds:
            metrics.synced(kind.name, False)

    @property
    def synced(self) -> bool:
        """Whether everything that there was at the start is in the cache."""
        return all(kind.name in self._complete for kind in self._kinds)

    async def run(self, ready: asyncio.Event, stop: asyncio.Event) -> None:
        """Watches until `stop` is set. `ready` is set once kopf has taken over the signals."""
        named = [n for n in self._namespaces if n is not None]
        reflecting = [
            asyncio.create_task(reflector.run(), name=f"watch-{kind}")
            for kind, reflectors in self._reflectors.items()
            for reflector in reflectors
        ]
        reflecting.append(asyncio.create_task(self._definitions.run(), name="watch-definitions"))
        try:
            await kopf.operator(
                registry=self._registry(),
                settings=self._settings(),
                clusterwide=not named,
                namespaces=named,
                standalone=True,
                ready_flag=ready,
                stop_flag=stop,
            )
        finally:
            for task in reflecting:
                task.cancel()
            await asyncio.gather(*reflecting, return_exceptions=True)

    async def wait_synced(self) -> None:
        """Returns once the cache is full. Raises WatchError where a kind can't be listed."""
        await asyncio.gather(
            *(
                self._wait_for(kind) if kind.owner_label else self._wait_reflected(kind)
                for kind in self._kinds
            )
        )

    async def _wait_reflected(self, kind: Kind) -> None:
        for reflector in self._reflectors[kind.name]:
            await reflector.wait_synced()
        self._complete.add(kind.name)
        self._metrics.synced(kind.name, True)

    async def _wait_for(self, kind: Kind) -> None:
        loop = asyncio.get_running_loop()
        while True:
            listed = {uid for uids, _, _ in await self._list(kind) for uid in uids}
            missing = self._missing(kind, listed)
            until = loop.time() + RELIST_AFTER
            # While objects arrive there is no reason to list again, however many there are.
            while missing and loop.time() < until:
                await asyncio.sleep(LOOK_EVERY)
                before, missing = len(missing), self._missing(kind, missing)
                if len(missing) < before:
                    until = loop.time() + RELIST_AFTER
            if not missing:
                self._complete.add(kind.name)
                self._metrics.synced(kind.name, True)
                return

    def _missing(self, kind: Kind, uids: set[str]) -> set[str]:
        return {uid for uid in uids if not self._cache.has(kind.name, uid)}

    async def _list(self, kind: Kind) -> list[tuple[set[str], int, str | None]]:
        """Per namespace the uids and the listing's version."""
        selector = None if kind.owner_label else MANAGED_SELECTOR
        found = []
        for namespace in self._namespaces:
            uids: set[str] = set()
            version = 0
            try:
                async for page, page_version in self._client.list_pages(
                    kind, namespace, selector, metadata_only=True
                ):
                    # A later page may be of a later version; only the first is surely covered by all of them.
                    version = version or page_version
                    uids |= {str(item["metadata"]["uid"]) for item in page}
            except (NotFound, Refused) as error:
                raise refusal(kind, error) from error
            found.append((uids, version, namespace))
        return found

    def check(self, kind_name: str) -> None:
        """Has a kind listed, soon: what its watch says is in doubt."""
        if kind_name in self._complete and kind_name not in self._resyncs:
            task = asyncio.create_task(self._resync(self._kinds[kind_name]), name=f"resync-{kind_name}")
            self._resyncs[kind_name] = task
            task.add_done_callback(lambda _: self._resyncs.pop(kind_name, None))

    def _taken(self, kind: Kind, event: str | None, obj: Manifest) -> None:
        obj.setdefault("kind", kind.name)
        obj.setdefault("apiVersion", kind.api_version)
        self._observe(event, prune(obj))
        if event is None:
            # Of a listing of kopf's: where that is not the first, a watch has started over, and what was
            # deleted in between is gone without a word.
            self.check(kind.name)

    async def _resync(self, kind: Kind) -> None:
        """Removes from the cache what a listing does not name."""
        await asyncio.sleep(RESYNC_DELAY)
        try:
            for uids, version, namespace in await self._list(kind):
                for key in self._cache.missing_from(kind.name, uids, version, namespace):
                    self._metrics.missed(kind.name)
                    self._gone(key)
        except (ClusterError, WatchError) as error:
            log.warning("listing after a lost watch failed", extra={"kind": kind.name, "detail": str(error)})

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        for kind in self._primary:
            self._register(registry, kind)

        # A registry of one's own has no login handlers unless one is given.
        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.ConnectionInfo:
            return await self._login.for_kopf()

        return registry

    def _register(self, registry: kopf.OperatorRegistry, kind: Kind) -> None:
        @kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=f"watch-{kind.plural}")
        async def on_event(event: kopf.RawEvent, **_: Any) -> None:
            # What a handler raises is logged and lost: nothing in here may fail.
            raw = event["object"]
            self._taken(kind, event["type"], dict(raw))
            # kopf holds on to the object for a while; of a long listing that is most of the memory at the
            # start.
            for name in _BULK:
                cast("dict[str, Any]", raw).pop(name, None)

    def _settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.scanning.disabled = (
            True  # the CRDs come with the chart; no rights on CRDs and namespaces needed
        )
        settings.peering.standalone = True
        settings.persistence.diffbase_storage = NoDiffBase()
        settings.persistence.progress_storage = NoProgress()
        settings.queueing.idle_timeout = 0.2  # a listing of N objects holds 2 N tasks for so long
        settings.watching.chunk_size = CHUNK
        settings.networking.request_timeout = 30
        settings.networking.connect_timeout = 5
        settings.execution.max_workers = 1  # all handlers are coroutines
        settings.process.ultimate_exiting_timeout = None  # the process ends by our own clock
        return settings
