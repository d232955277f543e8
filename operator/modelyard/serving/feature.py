"""ModelDeployment, as the operator knows it."""

from __future__ import annotations

from modelyard.engine.feature import Feature
from modelyard.engine.kinds import Kind
from modelyard.serving import names
from modelyard.serving.plan import make_planner
from modelyard.serving.status.measures import MEASURE
from modelyard.workloads.kinds import (
    AUTOSCALER,
    CLAIM,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    JOB,
    POD,
    REPLICA_SET,
    ROLE_BINDING,
    SCALED_OBJECT,
    SERVICE,
    SERVICE_ACCOUNT,
)

MODEL_DEPLOYMENT = Kind(
    "ModelDeployment", "modelyard.dev", "v1alpha1", "modeldeployments", owner_label=names.DEPLOYMENT_LABEL
)

FEATURE = Feature(
    kind=MODEL_DEPLOYMENT,
    make_planner=make_planner,
    makes=(
        SERVICE_ACCOUNT,
        ROLE_BINDING,
        SERVICE,
        DISRUPTION_BUDGET,
        CLAIM,
        JOB,
        DEPLOYMENT,
        AUTOSCALER,
        SCALED_OBJECT,
    ),
    sees=(REPLICA_SET, POD),
    measure=MEASURE,
    binds=True,
)
