"""TrainingJob on the command line."""

from __future__ import annotations

from modelyard.cli.kind import Kind
from modelyard.cli.trainingjob.stages import STAGES
from modelyard.cli.trainingjob.view import look
from modelyard.training.feature import TRAINING_JOB

KIND = Kind(TRAINING_JOB, "tj", look, STAGES)
