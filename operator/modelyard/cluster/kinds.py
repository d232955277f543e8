"""The kinds that the operator reconciles and those that it makes."""

from __future__ import annotations

from modelyard.engine.kinds import Kind, Kinds

TRAINING_JOB = Kind(
    "TrainingJob", "modelyard.dev", "v1alpha1", "trainingjobs", owner_label="modelyard.dev/trainingjob"
)

OPERATOR_KINDS = Kinds(
    [
        TRAINING_JOB,
        # One that others delete is made again from what it held.
        Kind("ConfigMap", "", "v1", "configmaps", remembered=True),
        Kind("Service", "", "v1", "services"),
        # One that shall outlive its job has no owner.
        Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims", detachable=True),
        Kind("Job", "batch", "v1", "jobs"),
        # A deleted pod is gone within milliseconds of its last word: why it ended.
        Kind("Pod", "", "v1", "pods", remembered=True),
    ]
)
