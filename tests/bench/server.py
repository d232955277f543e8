"""The API server as a measuring client sees it: raw HTTP, metadata-only watches, request counters."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml

METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
# What a server answers that has too much to do, or whose own timeout (a minute) was too short.
OVERLOADED = (429, 500, 502, 503, 504)
WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION")
FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0  # seconds
_REQUESTS = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)", re.M)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class ServerError(RuntimeError):
    """An answer that is no success. `retry_after`: the seconds that the server asks to wait."""

    def __init__(self, message: str, status: int, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class Server:
    """A session with the API server of a kubeconfig."""

    def __init__(self, kubeconfig: str) -> None:
        config = yaml.safe_load(Path(kubeconfig).read_text())
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]
        folder = Path(kubeconfig).resolve().parent
        self.url = str(cluster["server"]).rstrip("/")
        with tempfile.TemporaryDirectory() as scratch:
            files = {
                key: _file(values, key, folder, Path(scratch))
                for values in (cluster, user)
                for key in ("certificate-authority", "client-certificate", "client-key")
                if key in values or key + "-data" in values
            }
            self.ssl = ssl.create_default_context(cafile=files.get("certificate-authority"))
            if "client-certificate" in files:
                self.ssl.load_cert_chain(files["client-certificate"], files["client-key"])

    async def __aenter__(self) -> Server:
        connector = aiohttp.TCPConnector(ssl=self.ssl, limit=0)
        self.session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=120), read_bufsize=1 << 20
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """One request; the parsed answer. Raises ServerError on anything but 2xx."""
        content = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.request(method, self.url + path, data=data, headers=content) as reply:
            text = await reply.text()
            if reply.status >= 300:
                after = reply.headers.get("Retry-After", "")
                seconds = float(after) if after.isdecimal() else 0.0
                raise ServerError(f"{method} {path}: {reply.status} {text[:300]}", reply.status, seconds)
        return json.loads(text) if text[:1] == "{" else text

    async def insist(
        self, method: str, path: str, body: Any = None, *, seconds: float = 300, **headers: str
    ) -> Any:
        """`call`, again while the server is overloaded or doesn't answer, for at most so many seconds.

        For requests that may be done twice. Raises the last error: ServerError, aiohttp.ClientError, TimeoutError.
        """
        deadline, delay = time.monotonic() + seconds, FIRST_DELAY
        while True:
            try:
                return await self.call(method, path, body, **headers)
            except (ServerError, aiohttp.ClientError, TimeoutError) as error:
                pause = delay
                if isinstance(error, ServerError):
                    if error.status not in OVERLOADED:
                        raise
                    pause = max(delay, min(error.retry_after, LONGEST_DELAY))
                if time.monotonic() + pause > deadline:
                    raise
            await asyncio.sleep(pause)
            delay = min(2 * delay, LONGEST_DELAY)

    async def requests(self) -> Counter[str]:
        """Requests answered so far, by verb and resource; Leases and watches left out."""
        counts: Counter[str] = Counter()
        for labels, number in _REQUESTS.findall(await self.insist("GET", "/metrics")):
            values = dict(_LABEL.findall(labels))
            resource = values["resource"]
            if not resource or resource == "leases" or values["verb"] == "WATCH":
                continue
            name = resource + ("/" + values["subresource"] if values["subresource"] else "")
            counts[f"{values['verb']} {name}"] += int(float(number))
        return counts


def writes(counts: Mapping[str, int]) -> int:
    """How many of the requests were writes."""
    return sum(n for key, n in counts.items() if key.split()[0] in WRITES)


class Watch:
    """Follows one kind by metadata, from before the first line of its `async with` to the last.

    Subclasses override `see`.
    """

    def __init__(self, server: Server, path: str) -> None:
        self.server, self.path = server, path
        self.changed = asyncio.Event()
        self._ready = asyncio.Event()

    def see(self, event: str, metadata: dict[str, Any], now: float) -> bool:
        """An event (ADDED, MODIFIED, DELETED), its object's metadata, and when it came (monotonic seconds).

        Returns whether it is news to those who wait in `until`.
        """
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow())
        await self._until(self._ready.wait(), 60, "the watch did not begin in 60 s")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
        """Until it holds; asks after what is news. Raises TimeoutError, and at once what ended the watch."""

        async def follow() -> None:
            while not holds():
                self.changed.clear()
                await self.changed.wait()

        await self._until(follow(), seconds, otherwise)

    async def _until(self, awaited: Coroutine[Any, Any, Any], seconds: float, otherwise: str) -> None:
        task = asyncio.ensure_future(awaited)
        try:
            await asyncio.wait({task, self._task}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return
            if self._task.done():
                self._task.result()
                raise RuntimeError(f"the server ended the watch of {self.path}")
            raise TimeoutError(otherwise)
        finally:
            task.cancel()

    async def _follow(self) -> None:
        listed = await self.server.insist("GET", self.path + "?limit=1", Accept="application/json")
        version = listed["metadata"]["resourceVersion"]
        url = f"{self.server.url}{self.path}?watch=1&resourceVersion={version}"
        timeout = aiohttp.ClientTimeout(total=None)
        async with self.server.session.get(url, headers={"Accept": METADATA}, timeout=timeout) as reply:
            if reply.status >= 300:
                raise ServerError(f"watch of {self.path}: {reply.status} {await reply.text()}", reply.status)
            self._ready.set()
            buffer = b""
            async for chunk in reply.content.iter_any():
                now = time.monotonic()
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise RuntimeError(f"watch of {self.path}: {json.dumps(event['object'])[:300]}")
                    if self.see(event["type"], event["object"]["metadata"], now):
                        self.changed.set()


class FirstChild(Watch):
    """Remembers when the first child of each parent was seen (monotonic seconds)."""

    def __init__(self, server: Server, path: str, label: str) -> None:
        super().__init__(server, path)
        self.label = label
        self.first: dict[str, float] = {}

    def see(self, event: str, metadata: dict[str, Any], now: float) -> bool:
        """Takes a new child's time, if it is its parent's first."""
        parent = metadata.get("labels", {}).get(self.label)
        if event != "ADDED" or not parent or parent in self.first:
            return False
        self.first[parent] = now
        return True

    async def wait(self, names: list[str], seconds: float) -> None:
        """Until every parent has its child. Raises TimeoutError that names one without."""
        try:
            await self.until(lambda: all(name in self.first for name in names), seconds, "")
        except TimeoutError:
            missing = [name for name in names if name not in self.first]
            raise TimeoutError(
                f"{len(missing)} of {len(names)} jobs have no child after {seconds:.0f} s, first {missing[0]}"
            ) from None


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)


def _file(values: Mapping[str, str], key: str, folder: Path, scratch: Path) -> str:
    if key + "-data" in values:
        path = scratch / key
        path.write_bytes(base64.b64decode(values[key + "-data"]))
        return str(path)
    return str(folder / values[key])
