"""What no schema can say, checked before anything is created."""

from __future__ import annotations

from modelyard.api.profile import Profile
from modelyard.api.trainingjob import TrainingJobSpec
from modelyard.api.transitions import NAME_LIMIT
from modelyard.training import names
from modelyard.workloads import stages
from modelyard.workloads.pods import overlay
from modelyard.workloads.problem import Refused
from modelyard.workloads.storage import find_place


def check_name(name: str) -> None:
    """The name must leave room for what is derived from it. Raises Refused."""
    if not names.NAME_RULE.match(name) or len(name) > NAME_LIMIT:
        raise Refused(
            "InvalidSpec",
            f"metadata.name {name!r} can't be a host name of the training pods: begin with a letter, use a-z,"
            f" 0-9 and '-' only, and at most {NAME_LIMIT} characters. Create the job again under"
            " another name.",
        )


def check_spec(spec: TrainingJobSpec, profile: Profile, job: str) -> None:
    """Combinations of fields. Raises Refused."""
    given = [field for field in ("task", "model", "data") if getattr(spec, field) is not None]
    missing = [field for field in ("task", "model", "data") if field not in given]
    if missing and (given or spec.builtin):
        hint = " (or all three left out, since spec.trainer.command is set)" if not spec.builtin else ""
        _refuse(f"spec.{missing[0]} must be set{hint}")
    if spec.model and (spec.model.uri is None) == (spec.model.config is None):
        _refuse("spec.model needs exactly one of uri and config")
    if spec.model and spec.model.config is not None and "model_type" not in spec.model.config:
        _refuse("spec.model.config needs model_type, as llama or bert")
    if spec.training.max_steps is not None and spec.training.num_train_epochs is not None:
        _refuse("spec.training: set numTrainEpochs or maxSteps, not both")
    if spec.gate and (spec.gate.max is None) == (spec.gate.min is None):
        _refuse("spec.gate needs exactly one of max and min")
    if spec.data and spec.data.split.validation + spec.data.split.test >= 1:
        _refuse("spec.data.split: validation and test together must leave rows to train on (less than 1)")
    if spec.gate and spec.data and spec.data.split.validation == 0:
        _refuse("spec.gate needs a validation split; set spec.data.split.validation above 0")
    if spec.storage and spec.storage.uri and spec.storage.claim:
        _refuse("spec.storage: set uri or claim, not both")
    for variable in [*spec.trainer.env, *profile.env]:
        if variable.name.startswith("MODELYARD_"):
            _refuse(f"spec.trainer.env: {variable.name} is reserved; choose a name without MODELYARD_")
        if (variable.value is None) == (variable.secret_key_ref is None):
            _refuse(f"spec.trainer.env {variable.name} needs exactly one of value and secretKeyRef")
    _check_overlay(spec, profile, job)


def _check_overlay(spec: TrainingJobSpec, profile: Profile, job: str) -> None:
    template = spec.trainer.pod_template
    overlay.check(template, names.POD_TEMPLATE, stages.find("train").container)
    storage = find_place(names.storage_claim(job), spec.storage, profile).claim
    for volume in template.get("spec", {}).get("volumes", []):
        if volume.get("persistentVolumeClaim", {}).get("claimName") == storage:
            _refuse(
                f"spec.trainer.podTemplate mounts claim {storage!r} a second time; it is the job's storage"
                " and already at /modelyard/storage"
            )


def _refuse(message: str) -> None:
    raise Refused("InvalidSpec", message + ".")
