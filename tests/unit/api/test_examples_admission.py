"""Every TrainingJob that people copy from this repository is one that the API server accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from modelyard.api.trainingjob import TrainingJobSpec
from modelyard.api.yaml import load_all

from tests.crds.admission import refusals

ROOT = Path(__file__).parents[3]
JOBS = [
    pytest.param(document, id=f"{path.relative_to(ROOT)}:{document['metadata']['name']}")
    for path in sorted((ROOT / "examples").rglob("*.yaml"))
    for document in load_all(path.read_text(encoding="utf-8"))
    if isinstance(document, dict) and document.get("kind") == "TrainingJob"
]


@pytest.mark.parametrize("job", JOBS)
def test_an_example_is_accepted_and_understood(job: dict[str, Any]) -> None:
    assert refusals(job) == []
    TrainingJobSpec.model_validate(job["spec"])


def test_there_are_examples() -> None:
    assert JOBS
