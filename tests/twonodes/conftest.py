"""Fixtures of the tests on two nodes: a cluster of their own, and the end-to-end tests' means."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.cluster import cache, plan
from tests.e2e import jobs
from tests.e2e.harness import Kube
from tests.e2e.setup import ROOT, Cluster, bring_up, fresh_namespace
from tests.twonodes.nodes import Nodes

CLUSTER, NAMESPACE = "two", "two-nodes"
WAIT_SECONDS = 5.0


def command(*words: str) -> None:
    """One command of tests.cluster for this cluster. Raises AssertionError with its words."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster", *words, "--name", CLUSTER],
        cwd=ROOT, capture_output=True, text=True, timeout=2400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes with images and chart. Raises ClusterError when another process uses them."""
    with cache.locked(
        plan.clusters_folder() / f"{CLUSTER}.used", "using the two nodes", seconds=WAIT_SECONDS
    ):
        try:
            command("up", "--nodes", "2")
            yield bring_up(CLUSTER)
        finally:
            command("down")


@pytest.fixture(scope="session")
def kube(cluster: Cluster) -> Kube:
    """kubectl in a fresh namespace that enforces the restricted Pod Security level, with data."""
    found = cluster.kube(NAMESPACE)
    fresh_namespace(found)
    found.apply(jobs.inputs())
    return found


@pytest.fixture
def nodes(cluster: Cluster, kube: Kube) -> Iterator[Nodes]:
    """The nodes, to be drained and lost; whatever a test did, both are there and empty at its end."""
    both = Nodes(cluster, kube, command)
    yield both
    kube.run("delete", "tj", "--all", timeout=180)
    command("up")
    for name in both.names():
        both.uncordon(name)
