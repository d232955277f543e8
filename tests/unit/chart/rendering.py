"""helm as the chart's tests call it."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import binaries

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "modelyard"
Values = Mapping[str, Any]
Manifests = list[dict[str, Any]]


class ChartError(Exception):
    """helm refused; the message is its own."""


@functools.cache
def find_helm() -> str:
    """helm as the local cluster's tools keep it: fetched by hash where it is missing."""
    binaries.ensure_tools()
    return str(binaries.folder() / "helm")


def run_helm(*args: str, values: Values | None = None) -> str:
    """Runs helm; values go in as JSON on standard input. Raises ChartError with what it said."""
    command = [find_helm(), *args, "--values", "-"] if values is not None else [find_helm(), *args]
    done = subprocess.run(
        command, input=json.dumps(values or {}), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ChartError(done.stderr + done.stdout)
    return done.stdout


def render(values: Values | None = None, *args: str) -> Manifests:
    """The manifests of the chart for some values."""
    text = run_helm(
        "template", "modelyard", str(CHART), "--namespace", "modelyard-system", *args, values=values or {}
    )
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(manifests: Manifests, kind: str) -> Manifests:
    """The manifests of one kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def only(manifests: Manifests, kind: str) -> dict[str, Any]:
    """The one manifest of a kind."""
    (found,) = of_kind(manifests, kind)
    return found
