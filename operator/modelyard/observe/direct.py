"""Reads pods at their addresses, for an operator that runs inside the cluster."""

from __future__ import annotations

import aiohttp

from modelyard.engine.probe import Probe
from modelyard.observe import http
from modelyard.observe.poller import Answer


class DirectReader:
    """Implements `observe.poller.Reader` over plain HTTP."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> DirectReader:
        # No limit: the poller bounds its questions, and those that are held back must not keep others waiting.
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(self, probe: Probe, timeout: float, wait: float, tag: str | None) -> Answer | None:
        """The answer, or None where there is none within `timeout` seconds."""
        if self._session is None or not probe.ip:
            return None
        host = f"[{probe.ip}]" if ":" in probe.ip else probe.ip
        url = f"http://{host}:{probe.port}/{probe.path.lstrip('/')}"
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            async with self._session.get(url, headers=http.ask(wait, tag), timeout=limit) as response:
                body = b""
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > http.MAX_BYTES:
                        return None
                return http.read(response.status, response.headers, body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None
