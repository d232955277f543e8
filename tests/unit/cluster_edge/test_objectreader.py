"""Objects of others: there, going, gone, or nobody answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from modelyard.cluster.objectreader import ObjectReader
from modelyard.engine.errors import NotFound, Refused, Unavailable
from modelyard.engine.kinds import Kind
from modelyard.engine.plan import Manifest
from modelyard.engine.probe import ObjectProbe
from modelyard.features import KINDS

PROBE = ObjectProbe("claim-mine", "team", "PersistentVolumeClaim", "mine")


class FakeClient:
    def __init__(self, answer: Manifest | Exception | None) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, str]] = []

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        self.asked.append((kind.plural, namespace, name))
        if self.answer is None:
            await asyncio.sleep(60)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or {}


CASES: dict[str, tuple[Manifest | Exception | None, dict[str, Any] | None]] = {
    "there": ({"metadata": {"name": "mine"}}, {"found": True, "ending": False}),
    "going": ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, {"found": True, "ending": True}),
    "gone": (NotFound("404"), {"found": False}),
    "not allowed to look": (Refused("Forbidden", "no"), {"refused": True}),
    "a server in trouble": (Unavailable("503"), None),
    "a server that says nothing": (None, None),
}


@pytest.mark.parametrize("name", CASES)
def test_an_object_is_read_and_what_is_not_known_is_none(name: str) -> None:
    answer, expected = CASES[name]
    client = FakeClient(answer)
    reader = ObjectReader(client, KINDS)  # type: ignore[arg-type]
    assert asyncio.run(reader.read_object(PROBE, 0.05)) == expected
    assert client.asked == [("persistentvolumeclaims", "team", "mine")]
