from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent.pods import AgentPod

MakePod = Callable[..., AgentPod]


@pytest.fixture
def make_pod(tmp_path: Path) -> Iterator[MakePod]:
    """Pods that end with the test, whatever became of it."""
    pods: list[AgentPod] = []

    def make(name: str = "pod", **settings: Any) -> AgentPod:
        folder = tmp_path / name
        folder.mkdir()
        pods.append(AgentPod(folder, **settings))
        return pods[-1]

    yield make
    for pod in pods:
        pod.end()
