"""The custom resources, as kubectl meets them. One more is one more value here."""

from __future__ import annotations

from modelyard.api.crd import CustomResource, column
from modelyard.api.deploymentstatus import ModelDeploymentStatus
from modelyard.api.modeldeployment import NAME_RULES as DEPLOYMENT_NAME_RULES
from modelyard.api.modeldeployment import ModelDeploymentSpec
from modelyard.api.status import TrainingJobStatus
from modelyard.api.trainingjob import TrainingJobSpec
from modelyard.api.transitions import CLAIM_RULES, NAME_RULES, TRANSITION_RULES

TRAINING_JOB = CustomResource(
    kind="TrainingJob",
    short_name="tj",
    description="TrainingJob takes a model and data to a trained model that has passed its gate.",
    spec=TrainingJobSpec,
    status=TrainingJobStatus,
    rules=(*NAME_RULES, *TRANSITION_RULES),
    selectable=(".status.phase", ".spec.suspend"),
    # NB: ETA is no `date` column: kubectl prints dates as ages, and a date in the future as <invalid>.
    columns=(
        column("Phase", ".status.phase", about="A summary of the conditions."),
        column("Step", ".status.progress.step", "integer", about="Optimizer steps done."),
        column("Of", ".status.progress.maxSteps", "integer", about="Optimizer steps to do."),
        column("Percent", ".status.progress.percent", "integer", about="Steps done, in percent."),
        column("Loss", ".status.progress.metrics.loss", "number", about="Last training loss."),
        column("ETA", ".status.progress.estimatedCompletionTime", about="When training should end."),
        column(
            "Reason", '.status.conditions[?(@.type=="Ready")].reason', about="Why the job is ready or not."
        ),
        column("Age", ".metadata.creationTimestamp", "date", about="Time since creation."),
        column(
            "Attempt", ".status.attempt", "integer", wide=True, about="Index of the current or last attempt."
        ),
        column("Goodput", ".status.goodput.ratio", "number", wide=True, about="Productive part of its time."),
        column("Cost", ".status.cost.amount", "number", wide=True, about="What it has cost so far."),
        column("Gate", ".status.gate.value", "number", wide=True, about="The gate's metric."),
        column("Message", '.status.conditions[?(@.type=="Ready")].message', wide=True, about="What to do."),
    ),
)

MODEL_DEPLOYMENT = CustomResource(
    kind="ModelDeployment",
    short_name="md",
    description="ModelDeployment takes a trained model to an endpoint that is compressed, batched and scaled.",
    spec=ModelDeploymentSpec,
    status=ModelDeploymentStatus,
    rules=(*DEPLOYMENT_NAME_RULES, *CLAIM_RULES),
    scale={
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    },
    columns=(
        column(
            "Ready", '.status.conditions[?(@.type=="Ready")].status', about="Whether requests are answered."
        ),
        column("Replicas", ".status.readyReplicas", "integer", about="Servers that answer."),
        column("URL", ".status.url", about="Where requests go, inside the cluster."),
        column("Model", ".status.model.uri", about="The model that is served."),
        column("Age", ".metadata.creationTimestamp", "date", about="Time since creation."),
        column(
            "Reason",
            '.status.conditions[?(@.type=="Ready")].reason',
            wide=True,
            about="Why it is ready or not.",
        ),
        column("Variant", ".status.compression.chosen", wide=True, about="What the model is computed in."),
        column(
            "UpToDate",
            '.status.conditions[?(@.type=="UpToDate")].status',
            wide=True,
            about="Whether what the spec asks for serves.",
        ),
        column("Message", '.status.conditions[?(@.type=="Ready")].message', wide=True, about="What to do."),
    ),
)

RESOURCES: tuple[CustomResource, ...] = (TRAINING_JOB, MODEL_DEPLOYMENT)
