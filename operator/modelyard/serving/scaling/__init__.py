"""How many replicas a deployment should have: a pure decision. Windows are measured by the gateways
(`modelyard.contract.load`); why it is as it is: docs/design/2026-11-30-scaling.md.
"""

from modelyard.serving.scaling.config import ScalingConfig
from modelyard.serving.scaling.decision import Decision, Present, decide
from modelyard.serving.scaling.load import Load, total
from modelyard.serving.scaling.state import Held, ScalingState

__all__ = ["Decision", "Held", "Load", "Present", "ScalingConfig", "ScalingState", "decide", "total"]
