"""Reads agents through the API server's pod proxy, for an operator that runs outside the cluster."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from modelyard.cluster.client import Client
from modelyard.engine.errors import ClusterError
from modelyard.engine.plan import Probe


class PodProxy:
    """Implements `observe.progress.Reader`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def read(self, probe: Probe, timeout: float) -> dict[str, Any] | None:
        """The agent's answer, or None where there is none within `timeout` seconds."""
        pod = f"{quote(probe.pod)}:{probe.port}"
        path = f"/api/v1/namespaces/{probe.namespace}/pods/{pod}/proxy/{probe.path.lstrip('/')}"
        try:
            answer = await self._client.call("GET", path, "pods/proxy", timeout=timeout)
        except (ClusterError, ValueError, RecursionError):
            return None
        return answer if isinstance(answer, dict) else None
