"""The operator's features. One more is one more line."""

from __future__ import annotations

from modelyard.engine.feature import Feature, find_kinds
from modelyard.serving.feature import FEATURE as SERVING
from modelyard.training.feature import FEATURE as TRAINING

FEATURES: tuple[Feature, ...] = (TRAINING, SERVING)
KINDS = find_kinds(FEATURES)
