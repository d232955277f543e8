"""The API server over plain dicts.

Credentials come from kubernetes.aio; the calls themselves go through one aiohttp session, because the
generated client costs four times the CPU of the call (1.0 against 0.22 ms for an apply) and adds nothing to a
dict.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp

from modelyard.cluster.answers import error_of
from modelyard.cluster.login import Login
from modelyard.engine.errors import (
    AlreadyExists,
    ClusterError,
    Expired,
    NotFound,
    NotLeader,
    Throttled,
    Unavailable,
)
from modelyard.engine.kinds import Kind, Kinds
from modelyard.engine.plan import Key, Manifest
from modelyard.engine.ports import CHILD_MANAGER, STATUS_MANAGER
from modelyard.telemetry.metrics import Metrics

APPLY = "application/apply-patch+yaml"
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
# Within one call; what still fails then goes back to the queue, which is more patient.
ATTEMPTS = 3
RETRY_DELAY = 0.1
LONGEST_RETRY_AFTER = 5.0
PAGE = 250
# Of no object, so that the server makes a new one or refuses. A POST would do the same, but what it sets belongs to no
# apply: a field that leaves the plan later would stay.
NO_VERSION = "1"
# A server says something on each watch once a minute, if only a bookmark: silence is a lost connection.
WATCHING = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=100)
_EVENT = Kind("Event", "", "v1", "events")


class Client:
    """Calls with time limits, bounded retries and metrics. Implements `engine.ports.Cluster`.

    `may_write` is asked before every write of the engine; False raises NotLeader.
    """

    def __init__(self, login: Login, kinds: Kinds, metrics: Metrics) -> None:
        self._login = login
        self._kinds = kinds
        self._metrics = metrics
        self._session: aiohttp.ClientSession | None = None
        self.may_write: Callable[[], bool] = lambda: True

    async def __aenter__(self) -> Client:
        context = self._login.ssl_context()
        connector = aiohttp.TCPConnector(
            # No limit: workers and slots bound the calls, and watches must not take the calls' places.
            ssl=context if context is not None else True,
            limit=0,
            keepalive_timeout=60,
        )
        self._session = aiohttp.ClientSession(
            self._login.server,
            connector=connector,
            timeout=TIMEOUT,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "modelyard", "Accept": "application/json"},
            # With trust_env aiohttp would read the environment in a thread, twice per call.
            proxy=self._login.proxy(),
            read_bufsize=1 << 18,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    # engine.ports.Cluster

    async def apply(self, manifest: Manifest, *, manager: str = CHILD_MANAGER, new: bool = False) -> Manifest:
        """Server-side apply, creation included. Conflict where one that shall be `new` is there."""
        if new:
            manifest = manifest | {"metadata": manifest["metadata"] | {"resourceVersion": NO_VERSION}}
        return await self._apply(manifest, "", manager)

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """Server-side apply of the status subresource."""
        return await self._apply(manifest, "/status", STATUS_MANAGER)

    async def find(self, key: Key) -> Manifest | None:
        """The object of that name. It is listed, since that right is there."""
        kind = self._kinds[key.kind]
        params = {"fieldSelector": f"metadata.name={key.name}"}
        answer = await self.call("GET", kind.path(key.namespace), kind.plural, params=params)
        return next((_named(found, kind) for found in answer.get("items") or ()), None)

    async def delete(self, key: Key, uid: str) -> Manifest | None:
        """Deletes that very object, and what it owns in the background."""
        self._check_leader()
        kind = self._kinds[key.kind]
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            answer = await self.call(
                "DELETE", f"{kind.path(key.namespace)}/{quote(key.name)}", kind.plural, body=body
            )
        except NotFound:
            return None
        return _named(answer, kind) if "deletionTimestamp" in answer.get("metadata", {}) else None

    async def create_event(self, manifest: Manifest) -> None:
        """Creates a Kubernetes Event; one of that name is enough."""
        self._check_leader()
        try:
            await self.call(
                "POST", _EVENT.path(manifest["metadata"]["namespace"]), _EVENT.plural, body=manifest
            )
        except AlreadyExists:
            return

    # The rest of the edge

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        """One object."""
        return await self.call("GET", f"{kind.path(namespace)}/{quote(name)}", kind.plural)

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Creates an object."""
        return await self.call(
            "POST", kind.path(manifest["metadata"]["namespace"]), kind.plural, body=manifest
        )

    async def replace(self, kind: Kind, manifest: Manifest, timeout: float | None = None) -> Manifest:
        """Replaces an object; its resourceVersion guards against others' writes. `timeout` in seconds."""
        metadata = manifest["metadata"]
        path = f"{kind.path(metadata['namespace'])}/{quote(metadata['name'])}"
        return await self.call("PUT", path, kind.plural, body=manifest, timeout=timeout)

    async def list_events(self, namespace: str, kind: str, timeout: float) -> list[Manifest]:
        """Warning Events about objects of one kind in a namespace. `timeout` in seconds, for each page."""
        selector = f"type=Warning,involvedObject.kind={kind}"
        params = {"fieldSelector": selector, "limit": str(PAGE)}
        found: list[Manifest] = []
        while True:
            path = _EVENT.path(namespace)
            answer = await self.call("GET", path, _EVENT.plural, params=params, timeout=timeout)
            found += answer.get("items") or []
            more = answer["metadata"].get("continue")
            if not more:
                return found
            params = params | {"continue": more}

    async def list_pages(
        self, kind: Kind, namespace: str | None, selector: str | None, *, metadata_only: bool = False
    ) -> AsyncGenerator[tuple[list[Manifest], int]]:
        """Pages of a listing, each with the version of the listing it belongs to."""
        params = {"limit": str(PAGE)}
        if selector:
            params["labelSelector"] = selector
        headers = {"Accept": METADATA_LIST} if metadata_only else None
        while True:
            answer = await self.call("GET", kind.path(namespace), kind.plural, params=params, headers=headers)
            yield answer.get("items") or [], int(answer["metadata"]["resourceVersion"])
            more = answer["metadata"].get("continue")
            if not more:
                return
            params = params | {"continue": more}

    async def watch(
        self,
        kind: Kind,
        namespace: str | None,
        selector: str | None,
        *,
        version: int | None,
        seconds: int,
        metadata_only: bool = False,
    ) -> AsyncGenerator[dict[str, Any]]:
        """What happens after `version`, bookmarks included, until the server ends it after `seconds`.

        Without a version it begins with what there is.
        """
        params = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        if selector is not None:
            params["labelSelector"] = selector
        if version is not None:
            params["resourceVersion"] = str(version)
        headers = {"Accept": _METADATA} if metadata_only else {}
        path = kind.path(namespace)
        started = time.monotonic()
        try:
            async with self._open_session().get(
                path, params=params, headers=headers | await self._authorized(), timeout=WATCHING
            ) as response:
                self._metrics.called("WATCH", kind.plural, response.status, time.monotonic() - started)
                if response.status >= 400:
                    retry_after = response.headers.get("Retry-After")
                    raise error_of(response.status, await response.read(), f"WATCH {path}", retry_after)
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk if rest else chunk).split(b"\n")
                    for line in lines:
                        yield json.loads(line)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unavailable(f"WATCH {path}: {type(error).__name__}: {error}") from error

    async def _apply(self, manifest: Manifest, sub: str, manager: str) -> Manifest:
        self._check_leader()
        kind, metadata = self._kinds[manifest["kind"]], manifest["metadata"]
        answer = await self.call(
            "PATCH",
            f"{kind.path(metadata['namespace'])}/{quote(metadata['name'])}{sub}",
            kind.plural + sub,
            params={"fieldManager": manager, "force": "true"},
            body=manifest,
            headers={"Content-Type": APPLY},
        )
        return _named(answer, kind)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is not open")
        return self._session

    async def _authorized(self) -> dict[str, str]:
        authorization = await self._login.authorization()
        return {"Authorization": authorization} if authorization else {}

    def _check_leader(self) -> None:
        if not self.may_write():
            raise NotLeader("the Lease is not held")

    async def call(
        self,
        method: str,
        path: str,
        resource: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Manifest:
        """One call, repeated a few times where that is safe and may help.

        All our writes are: an apply or a conditional write done twice is one done once, and what is created
        has a name, under which it is found.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._once(method, path, resource, params, body, headers, timeout)
            except Expired:
                raise
            except Throttled as error:
                if attempt == ATTEMPTS or error.retry_after > LONGEST_RETRY_AFTER:
                    raise
                await asyncio.sleep(error.retry_after)
            except Unavailable:
                if attempt == ATTEMPTS or timeout is not None:
                    raise
                await asyncio.sleep(RETRY_DELAY * 2 ** (attempt - 1) * (1 + random.random()))  # noqa: S311 - jitter
        raise ClusterError(f"{method} {path}: no attempt was made")

    async def _once(
        self,
        method: str,
        path: str,
        resource: str,
        params: Mapping[str, str] | None,
        body: Manifest | None,
        headers: Mapping[str, str] | None,
        timeout: float | None,
    ) -> Manifest:
        content = json.dumps(body, separators=(",", ":")).encode() if body is not None else None
        code, said, got = await self._send(method, path, resource, params, content, headers, timeout)
        if code >= 400:
            raise error_of(code, got, f"{method} {path}", said.get("Retry-After"))
        answer: Manifest = json.loads(got)
        return answer

    async def fetch(
        self, path: str, resource: str, headers: Mapping[str, str], timeout: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of a GET, whatever they are. Implements `observe.proxied.Fetch`."""
        return await self._send("GET", path, resource, None, None, headers, timeout)

    async def _send(
        self,
        method: str,
        path: str,
        resource: str,
        params: Mapping[str, str] | None,
        content: bytes | None,
        headers: Mapping[str, str] | None,
        timeout: float | None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        session = self._open_session()
        started = time.monotonic()
        code = 0
        try:
            sent = {"Content-Type": "application/json", **(headers or {}), **await self._authorized()}
            async with session.request(
                method,
                path,
                params=params,
                data=content,
                headers=sent,
                timeout=aiohttp.ClientTimeout(total=timeout) if timeout else TIMEOUT,
            ) as response:
                got = await response.read()
                code = response.status
                return code, response.headers, got
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{method} {path}: {type(error).__name__}: {error}") from error
        finally:
            self._metrics.called(method, resource, code, time.monotonic() - started)


def _named(answer: Manifest, kind: Kind) -> Manifest:
    """Answers to PATCH and DELETE name their kind, but not on every server version in every case."""
    answer.setdefault("kind", kind.name)
    answer.setdefault("apiVersion", kind.api_version)
    return answer
