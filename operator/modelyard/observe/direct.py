"""Reads agents at their pods' addresses, for an operator that runs inside the cluster."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from modelyard.engine.plan import Probe

MAX_BYTES = 1 << 18


class DirectReader:
    """Implements `observe.progress.Reader` over plain HTTP."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> DirectReader:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64, keepalive_timeout=30))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(self, probe: Probe, timeout: float) -> dict[str, Any] | None:
        """The agent's answer, or None where there is none within `timeout` seconds."""
        if self._session is None or not probe.ip:
            return None
        host = f"[{probe.ip}]" if ":" in probe.ip else probe.ip
        url = f"http://{host}:{probe.port}/{probe.path.lstrip('/')}"
        try:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=timeout)) as response:
                if response.status != 200:
                    return None
                # A user's pod may answer anything, at any length.
                answer = json.loads(await response.content.read(MAX_BYTES))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError):
            return None
        return answer if isinstance(answer, dict) else None
