"""`modelyard render`: what a manifest leads to, with no cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, TextIO

import yaml
from pydantic import ValidationError

from modelyard import __version__
from modelyard.api.base import API_VERSION
from modelyard.api.errors import describe
from modelyard.api.profile import Profile, Settings
from modelyard.api.yaml import load_all
from modelyard.cli.errors import CommandError
from modelyard.cli.kind import UID, Kind, Stage
from modelyard.cli.kinds import KINDS
from modelyard.engine.plan import Manifest


def run(
    filename: str, stage: str | None, profiles: Path | None, namespace: str, out: TextIO | None = None
) -> int:
    """Prints the objects as YAML. 1 if something is refused. Raises CommandError."""
    out = out or sys.stdout
    settings = read_settings(profiles)
    refused = 0
    for chosen, document in find_resources(filename, stage):
        plan = chosen.plan(complete(document, namespace), settings)
        stalled = next((c for c in plan.status["conditions"] if c["type"] == "Stalled"), None)
        if stalled is not None:
            refused += 1
            name = document["metadata"]["name"]
            print(f"modelyard: {name}: {stalled['reason']}: {stalled['message']}", file=sys.stderr)
        for child in plan.children:
            out.write(
                "---\n" + yaml.safe_dump(child.manifest, sort_keys=False, allow_unicode=True, width=110)
            )
    return 1 if refused else 0


def find_resources(filename: str, stage: str | None) -> list[tuple[Stage, Manifest]]:
    """The file's resources of ours, at this stage; without one, at their first. Raises CommandError."""
    documents = read_documents(filename)
    found = [(kind, document) for document in documents for kind in KINDS if _is_of(kind, document)]
    if not found:
        raise CommandError(f"{filename} has no {' or '.join(kind.name for kind in KINDS)} of {API_VERSION}")
    # The other resources of a file with several are not at fault.
    staged = [(chosen, document) for kind, document in found if (chosen := kind.find_stage(stage))]
    if not staged:
        kind = found[0][0]
        stages = " or ".join(each.name for each in kind.stages)
        raise CommandError(f"a {kind.name} has no stage {stage}; use {stages}")
    return staged


def complete(document: Manifest, namespace: str) -> Manifest:
    """The resource as the API server would hand it out, newly made. Raises CommandError."""
    metadata = {"namespace": namespace, "uid": UID, "generation": 1, **(document.get("metadata") or {})}
    if "name" not in metadata:
        raise CommandError(f"a {document['kind']} has no metadata.name")
    resource = {**document, "metadata": metadata}
    resource.pop("status", None)
    return resource


def read_documents(filename: str) -> list[Any]:
    """All YAML documents of a file (or - for standard input). Raises CommandError."""
    try:
        text = sys.stdin.read() if filename == "-" else Path(filename).read_text(encoding="utf-8")
        return list(load_all(text))
    except OSError as error:
        raise CommandError(f"can't read {filename}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise CommandError(f"{filename} is no YAML: {error}") from None


def read_settings(profiles: Path | None) -> Settings:
    """Profiles of a file; without one, a `default` profile of nothing but defaults. Raises CommandError."""
    if profiles is None:
        profile = Profile(
            trainer_image=f"modelyard/trainer:{__version__}",
            agent_image=f"modelyard/operator:{__version__}",
            server_image=f"modelyard/server:{__version__}",
            gateway_image=f"modelyard/gateway:{__version__}",
        )
        return Settings(profiles={"default": profile})
    documents = read_documents(str(profiles))
    try:
        return Settings.model_validate(documents[0] if documents else {})
    except ValidationError as error:
        raise CommandError(f"{profiles}: {describe(error, 'profiles file')}") from None


def _is_of(kind: Kind, document: Any) -> bool:
    return (
        isinstance(document, dict)
        and document.get("kind") == kind.name
        and document.get("apiVersion") == kind.resource.api_version
    )
