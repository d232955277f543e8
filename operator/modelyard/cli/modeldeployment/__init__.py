"""ModelDeployment on the command line."""

from __future__ import annotations

from modelyard.cli.kind import Kind
from modelyard.cli.modeldeployment.stages import STAGES
from modelyard.cli.modeldeployment.view import look
from modelyard.serving.feature import MODEL_DEPLOYMENT

KIND = Kind(MODEL_DEPLOYMENT, "md", look, STAGES)
