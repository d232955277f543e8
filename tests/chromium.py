"""Chromium without a window, over its DevTools protocol: the one on PATH, or Debian's, which is installed on demand."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 20.0


def find() -> str:
    """Its path. Raises AssertionError that says what to install where there is none to be had.

    Debian's needs a hundred libraries: it is installed, not unpacked beside.
    """
    for attempt in range(2):
        present = next(filter(None, map(shutil.which, NAMES)), None)
        if present:
            return present
        if attempt == 0 and shutil.which("apt-get"):
            for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", "chromium"]):
                subprocess.run(["apt-get", *command], capture_output=True, timeout=300, check=False)
    raise AssertionError("there is no Chromium: install Debian's package chromium")


class Page:
    """A page. `problems`: what it wrote to its console as an error, and what its policy kept it from."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._count = 0
        self.problems: list[str] = []

    async def call(self, method: str, **parameters: Any) -> Any:
        """The result of a method of DevTools."""
        self._count += 1
        await self._socket.send_json({"id": self._count, "method": method, "params": parameters})
        while True:
            told = json.loads(await self._socket.receive_str(timeout=SECONDS))
            if told.get("id") == self._count:
                assert "error" not in told, told
                return told["result"]
            if told.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                entry = told["params"]
                if entry.get("entry", {}).get("level") != "info":
                    self.problems.append(json.dumps(entry))

    async def open(self, url: str) -> None:
        """Goes there."""
        for domain in ("Log", "Runtime", "Page"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)

    async def run(self, script: str) -> Any:
        """The value of an expression; promises are waited for."""
        result = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, script: str) -> None:
        """Waits until the expression is true."""
        async with asyncio.timeout(SECONDS):
            while not await self.run(script):  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0.05)

    async def shoot(self, file: Path) -> None:
        """A picture of all of it."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))  # noqa: ASYNC240 - nobody else waits


@asynccontextmanager
async def browse(folder: Path, width: int = 900, height: int = 900) -> AsyncIterator[Page]:
    """An empty page of a browser of its own, whose files are in `folder`."""
    process = await asyncio.create_subprocess_exec(
        find(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={folder}",
        f"--window-size={width},{height}", "about:blank", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port = folder / "DevToolsActivePort"
        async with asyncio.timeout(60):
            while not port.exists() or "\n" not in port.read_text():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        base = f"http://127.0.0.1:{port.read_text().splitlines()[0]}"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{base}/json/list") as response:
                pages = await response.json()
            url = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            async with session.ws_connect(url, max_msg_size=1 << 26) as socket:
                yield Page(socket)
    finally:
        process.kill()
        await process.wait()
