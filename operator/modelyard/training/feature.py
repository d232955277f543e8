"""TrainingJob, as the operator knows it."""

from __future__ import annotations

from modelyard.engine.feature import Feature
from modelyard.engine.kinds import Kind
from modelyard.training import names
from modelyard.training.plan import make_planner
from modelyard.training.status.measures import MEASURE
from modelyard.workloads.kinds import CLAIM, JOB, POD, SERVICE

TRAINING_JOB = Kind("TrainingJob", "modelyard.dev", "v1alpha1", "trainingjobs", owner_label=names.JOB_LABEL)

FEATURE = Feature(
    kind=TRAINING_JOB,
    make_planner=make_planner,
    makes=(SERVICE, CLAIM, JOB),
    sees=(POD,),
    # A claim of the user's is in no watch; before a job succeeds it is read once, whether it stays.
    looks_at=(CLAIM,),
    measure=MEASURE,
    expires=True,
)
