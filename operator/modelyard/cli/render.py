"""`modelyard render`: what a manifest leads to, with no cluster."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
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
from modelyard.engine.plan import Manifest, Plan, Seen
from modelyard.training.plan import plan_job

STAGES = ("prepare", "train")
# The API server gives the uid, and preparing gives the digests; these stand for them.
UID = "00000000-0000-0000-0000-000000000000"
DIGEST = "sha256-" + "0" * 64


def run(filename: str, stage: str, profiles: Path | None, namespace: str, out: TextIO | None = None) -> int:
    """Prints the objects as YAML. 1 if a job is refused. Raises CommandError."""
    out = out or sys.stdout
    settings = read_settings(profiles)
    jobs = [document for document in read_documents(filename) if is_training_job(document)]
    if not jobs:
        raise CommandError(f"{filename} has no TrainingJob of {API_VERSION}")
    refused = 0
    for job in jobs:
        plan = plan_stage(job, stage, settings, namespace)
        stalled = next((c for c in plan.status["conditions"] if c["type"] == "Stalled"), None)
        if stalled is not None:
            refused += 1
            name = (job.get("metadata") or {}).get("name")
            print(f"modelyard: {name}: {stalled['reason']}: {stalled['message']}", file=sys.stderr)
        for child in plan.children:
            out.write(
                "---\n" + yaml.safe_dump(child.manifest, sort_keys=False, allow_unicode=True, width=110)
            )
    return 1 if refused else 0


def plan_stage(job: Manifest, stage: str, settings: Settings, namespace: str) -> Plan:
    """The plan of the pass that begins this stage."""
    metadata = {"namespace": namespace, "uid": UID, "generation": 1, **(job.get("metadata") or {})}
    if "name" not in metadata:
        raise CommandError("a TrainingJob has no metadata.name")
    body: Manifest = {**job, "metadata": metadata}
    body.pop("status", None)
    if stage == "train" and (job.get("spec") or {}).get("data") is not None:
        data = {"digest": DIGEST, "modelDigest": DIGEST, "rowsIn": 0, "rowsOut": 0}
        body["status"] = {"prepareAttempt": 1, "data": data}
    return plan_job(body, Seen(), datetime.now(UTC), settings)


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
        image = f"modelyard/trainer:{__version__}"
        profile = Profile(trainer_image=image, agent_image=f"modelyard/operator:{__version__}")
        return Settings(profiles={"default": profile})
    documents = read_documents(str(profiles))
    try:
        return Settings.model_validate(documents[0] if documents else {})
    except ValidationError as error:
        raise CommandError(f"{profiles}: {describe(error, 'profiles file')}") from None


def is_training_job(document: Any) -> bool:
    """Whether a YAML document is one of ours."""
    return (
        isinstance(document, dict)
        and document.get("kind") == "TrainingJob"
        and document.get("apiVersion") == API_VERSION
    )
