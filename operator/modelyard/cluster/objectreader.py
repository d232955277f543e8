"""Objects of others that no watch of ours tells of, read when a plan asks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from modelyard.cluster.client import Client
from modelyard.engine.errors import ClusterError, NotFound, Refused
from modelyard.engine.kinds import Kind
from modelyard.engine.probe import ObjectProbe


class ObjectReader:
    """Implements `observe.poller.ObjectSource`."""

    def __init__(self, client: Client, kinds: Iterable[Kind]) -> None:
        """`kinds` are those that plans may ask about."""
        self._client = client
        self._kinds = {kind.name: kind for kind in kinds}

    async def read_object(self, probe: ObjectProbe, timeout: float) -> dict[str, Any] | None:
        """Whether the object is there and will stay; None where no one answers within `timeout` seconds.

        That we may not look is an answer, too: an older Role must hold up no job.
        """
        call = self._client.get(self._kinds[probe.kind], probe.namespace, probe.object)
        try:
            found = await asyncio.wait_for(call, timeout)
        except NotFound:
            return {"found": False}
        except Refused:
            return {"refused": True}
        except (ClusterError, ValueError, TimeoutError):
            return None
        return {"found": True, "ending": "deletionTimestamp" in found["metadata"]}
