"""Lists and watches the EndpointSlices of one deployment.

With aiohttp, which the operator uses for the same: of an API client's whole surface this needs two GET requests, and a
token that is read anew. The official client is synchronous, and as large as all the rest of the image.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp

from modelyard_gateway.balance.servers import Target
from modelyard_gateway.follow import slices
from modelyard_gateway.follow.slices import Slice

log = logging.getLogger(__name__)

_WATCH_SECONDS = 240  # of one watch; then the next goes on from where it was
_SILENCE_SECONDS = 100.0  # bookmarks come every minute: a connection that is silent for longer is dead
_ANSWER_SECONDS = 10.0  # for a list, and for the begin of a watch
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0  # seconds between tries
_LASTING = 1.0  # seconds of a watch that is as it should be, though it tells nothing
_PAGE = 200  # slices
_LONGEST_LINE = 4 << 20  # bytes of one event
_LONGEST_WORDS = 400  # characters of what the operator shows


class _Refused(Exception):  # noqa: N818 - what the API server says
    """The API server's words instead of an answer."""


class Watch:
    """`told(targets)` is called with all revisions after the first list, and when anything about them has changed;
    `troubled()` when another `trouble` keeps it from following, and when it is over.
    """

    def __init__(
        self,
        api: str,
        account: Path,
        namespace: str,
        deployment: str,
        told: Callable[[dict[str, Target]], object],
        troubled: Callable[[], object] = lambda: None,
        pause: float = _FIRST_PAUSE,
    ) -> None:
        """account: the folder with the service account's `token` and the API server's `ca.crt`."""
        self._url = f"{api}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        self._selector = f"{slices.DEPLOYMENT_LABEL}={deployment}"
        self._account = account
        self._told = told
        self._troubled = troubled
        self._first_pause = pause
        self._seen: dict[str, Slice] = {}
        self._targets: dict[str, Target] | None = None  # as they were told
        self._version = ""  # from which to watch; "": list first
        self._heard = False  # an event, or a watch that lasted
        self._trouble = ""  # that was told

    @property
    def trouble(self) -> str | None:
        """What keeps it from following; None while nothing does."""
        return self._trouble[:_LONGEST_WORDS] or None

    async def run(self) -> None:
        """Follows for ever, whatever the API server does."""
        pause = self._first_pause
        while True:
            self._heard = False
            await self._follow()
            if self._heard:
                pause = self._first_pause
            # Also after a watch that ended well: it may have been over at once. Many gateways lose the same API server.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(_LONGEST_PAUSE, pause * 2)

    async def _follow(self) -> None:
        """One watch, after a list where one is due."""
        trouble = ""
        try:
            async with self._connect() as session:
                if not self._version:
                    await self._list(session)
                await self._watch(session)
        except _Refused as refused:
            trouble = f"the API server refuses to show EndpointSlices: {refused}"
            # Whether it is too old, or from an API server that knows more: from there it doesn't go on.
            self._version = ""
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is one
            trouble = f"EndpointSlices can't be followed at the moment: {error or type(error).__name__}"
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            trouble = f"the API server said what can't be read: {type(error).__name__}: {error}"
            self._version = ""
        if trouble and trouble != self._trouble:
            log.warning("%s", trouble)
            self._trouble = trouble
            self._troubled()

    def _connect(self) -> aiohttp.ClientSession:
        context: ssl.SSLContext | bool = True
        if self._url.startswith("https:"):
            context = ssl.create_default_context(cafile=self._account / "ca.crt")
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_ANSWER_SECONDS, sock_read=_ANSWER_SECONDS)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context), timeout=timeout, trust_env=False
        )

    async def _get(
        self, session: aiohttp.ClientSession, parameters: dict[str, str], silence: float
    ) -> aiohttp.ClientResponse:
        # Kubernetes replaces the file before the token ends.
        token = (self._account / "token").read_text().strip()
        response = await session.get(
            self._url,
            params={"labelSelector": self._selector, **parameters},
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_ANSWER_SECONDS, sock_read=silence),
            allow_redirects=False,
        )
        if response.status != 200:
            words = await response.content.read(2000)
            response.close()
            raise _Refused(f"{response.status}: {_read_message(words)}")
        return response

    async def _list(self, session: aiohttp.ClientSession) -> None:
        found: dict[str, Slice] = {}
        parameters = {"limit": str(_PAGE)}
        while True:
            async with await self._get(session, parameters, _ANSWER_SECONDS) as response:
                page = json.loads(await response.read())
            for manifest in page.get("items") or []:
                self._take(found, manifest)
            token = page["metadata"].get("continue")
            if not token:
                break
            parameters["continue"] = token
        self._seen, self._version = found, page["metadata"]["resourceVersion"]
        self._tell()

    async def _watch(self, session: aiohttp.ClientSession) -> None:
        parameters = {
            "watch": "1",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        async with await self._get(session, parameters, _SILENCE_SECONDS) as response:
            lasting = asyncio.get_running_loop().call_later(_LASTING, self._go_on)
            try:
                async for event in _read_lines(response):
                    self._take_event(event)
                    self._go_on()
            finally:
                lasting.cancel()

    def _go_on(self) -> None:
        """The watch is as it should be."""
        self._heard = True
        if self._trouble:
            log.info("EndpointSlices are followed again")
            self._trouble = ""
            self._troubled()

    def _take_event(self, event: dict[str, Any]) -> None:
        kind, manifest = event["type"], event["object"]
        if kind == "ERROR":
            raise _Refused(f"{manifest.get('code', 0)}: {manifest.get('message', '')}")
        self._version = manifest["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return
        if kind == "DELETED":
            self._seen.pop(manifest["metadata"]["name"], None)
        else:
            self._take(self._seen, manifest)
        self._tell()

    def _take(self, seen: dict[str, Slice], manifest: dict[str, Any]) -> None:
        name = manifest["metadata"]["name"]
        read = slices.read(manifest)
        if read is None:
            seen.pop(name, None)
        else:
            seen[name] = read

    def _tell(self) -> None:
        targets = slices.merge(self._seen.values())
        if targets != self._targets:
            self._targets = targets
            self._told(targets)


def _read_message(words: bytes) -> str:
    """Of a refusal: that of the API server's Status, or whatever else stands there."""
    with contextlib.suppress(ValueError, LookupError, TypeError):
        return str(json.loads(words)["message"])
    return words.decode(errors="replace")


async def _read_lines(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The events of a watch. Raises ValueError for what is none."""
    rest = b""
    async for part in response.content.iter_any():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if line:
                yield json.loads(line)
        if len(rest) > _LONGEST_LINE:
            raise ValueError(f"an event of the watch has more than {_LONGEST_LINE} bytes")
