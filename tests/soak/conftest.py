"""Fixtures of the long tests that need pods: the end-to-end tests' own."""

from __future__ import annotations

from tests.e2e.conftest import cluster, kube, operator

__all__ = ["cluster", "kube", "operator"]
