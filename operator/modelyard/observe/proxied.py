"""Reads pods through the API server's proxy, for an operator that runs outside the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from urllib.parse import quote

from modelyard.engine.errors import ClusterError
from modelyard.engine.probe import Probe
from modelyard.observe import http
from modelyard.observe.poller import Answer


class Fetch(Protocol):
    """A GET of the API server, whose answer is taken as it is."""

    async def __call__(
        self, path: str, resource: str, headers: Mapping[str, str], timeout: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body. Raises ClusterError where there is none within `timeout` seconds."""


class ProxiedReader:
    """Implements `observe.poller.Reader`."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    async def read(self, probe: Probe, timeout: float, wait: float, tag: str | None) -> Answer | None:
        """The answer, or None where there is none within `timeout` seconds."""
        pod = f"{quote(probe.pod)}:{probe.port}"
        path = f"/api/v1/namespaces/{probe.namespace}/pods/{pod}/proxy/{probe.path.lstrip('/')}"
        try:
            return http.read(*await self._fetch(path, "pods/proxy", http.ask(wait, tag), timeout))
        except ClusterError:
            return None
