"""The run config of a job, or why it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard.api.trainingjob import TrainingJobSpec
from modelyard.contract.run import RunConfig
from modelyard.training.children.runconfig import build_run_config
from modelyard.workloads.problem import Problem, Refused

from tests.builders import TrainingJobBuilder, make_settings

GPU = {"nvidia.com/gpu": "1"}


def job(**fields: Any) -> TrainingJobBuilder:
    """A job with these fields of spec.training."""
    builder = TrainingJobBuilder()
    return builder.spec("training", fields) if fields else builder


def configured(builder: TrainingJobBuilder | None = None, /, **config: Any) -> TrainingJobBuilder:
    """A job with this DeepSpeed configuration."""
    return (builder or job()).spec("deepspeed", {"config": config})


def resolve(builder: TrainingJobBuilder) -> RunConfig:
    """What the pods are told."""
    spec = TrainingJobSpec.model_validate(builder.build()["spec"])
    profile = make_settings().profiles["default"]
    return build_run_config(spec, profile, "team", "sentiment", "0c0ffee0", {})


def refusal(builder: TrainingJobBuilder) -> Problem:
    """Why the job is refused."""
    with pytest.raises(Refused) as refused:
        resolve(builder)
    return refused.value.problem
