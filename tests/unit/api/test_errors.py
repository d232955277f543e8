"""What users read when the operator can't understand a stored object."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard.api.errors import describe
from modelyard.api.profile import Settings
from modelyard.api.trainingjob import TrainingJobSpec
from pydantic import ValidationError


def said(spec: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as refused:
        TrainingJobSpec.model_validate(spec)
    return describe(refused.value)


def source(**changes: Any) -> dict[str, Any]:
    return {"data": {"sources": [{"name": "a", "uri": "pvc://claim/a.csv", **changes}]}}


def limits(**values: Any) -> dict[str, Any]:
    return {"trainer": {"resourcesPerNode": {"limits": values}}}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"trainer": {"numNodes": 0}}, "spec.trainer.numNodes: must be 1 or more, not 0"),
        (
            {"trainer": {"numProcPerNode": "many"}},
            "spec.trainer.numProcPerNode: must be a whole number or one of 'auto', not 'many'",
        ),
        (limits(cpu="two"), "spec.trainer.resourcesPerNode.limits.cpu: must be a quantity, as 500m or 16Gi"),
        (
            limits(**{"nvidia.com/gpu": "x"}),
            "spec.trainer.resourcesPerNode.limits['nvidia.com/gpu']: must be a quantity",
        ),
        (
            source(uri="ftp://host/a"),
            "spec.data.sources[0].uri: 'ftp://host/a' must be pvc://claim/path, https://host/file or "
            "configmap://name/key",
        ),
        (source(uri="configmap://a"), "must name one key, as configmap://name/key"),
        (source(uri="pvc://claim/../etc"), "must not contain '.' or '..' segments"),
        (source(name="A"), "spec.data.sources[0].name: must be a name in lower-case letters, digits and '-'"),
        (
            {"model": {"uri": "s3://a/b"}},
            "spec.model.uri: 's3://a/b' must be pvc://claim/path, hf://org/name or https://host/file; "
            "s3:// is not supported yet: copy the files to a claim and write pvc://claim/path",
        ),
        ({"model": {"uri": 5}}, "spec.model.uri: must be a string: put it in quotes, not 5"),
        ({"storage": {"uri": "pvc://A"}}, "spec.storage.uri: 'pvc://A' must name a claim in lower case"),
        ({"data": {}}, "spec.data.sources: is required: add it"),
        ({"data": {"sources": []}}, "spec.data.sources: must have at least 1 entry"),
        ({"trainign": {}}, "spec.trainign: is not a known field: check its spelling, or remove it"),
        (
            {"training": {"learningRate": "fast"}},
            "spec.training.learningRate: must be a number, as 2e-5, not 'fast'",
        ),
        ({"training": {"dropout": 1}}, "spec.training.dropout: must be below 1.0, not 1"),
        (
            {"training": {"lrSchedulerType": "cos"}},
            "spec.training.lrSchedulerType: must be one of 'linear', ",
        ),
        ({"deepspeed": {"zeroStage": 4}}, "spec.deepspeed.zeroStage: must be one of 0, 1, 2 or 3, not 4"),
        ({"training": []}, "spec.training: must be a map"),
        ({"suspend": "maybe"}, "spec.suspend: must be true or false, not 'maybe'"),
    ],
)
def test_names_the_field_as_written_and_the_fix(spec: dict[str, Any], message: str) -> None:
    assert message in said(spec)
    assert "\n" not in said(spec)


def test_shows_three_errors_and_counts_the_rest() -> None:
    text = said({"training": {"seed": -1, "maxLength": 1, "dropout": 2, "weightDecay": -1, "maxSteps": 0}})
    assert text.count("spec.training.") == 3
    assert text.endswith("; and 2 more")


def test_never_repeats_a_long_value() -> None:
    secret = "s" * 9000
    text = said({"trainer": {"env": [{"name": "A", "value": secret}]}})
    assert text == "spec.trainer.env[0].value: must have at most 8192 characters"
    assert len(said({"task": secret})) < 200


def test_every_rule_of_pydantic_that_our_models_use_has_a_sentence() -> None:
    # Pydantic's own texts say "Input should be"; ours say what to write.
    wrongs: tuple[Any, ...] = (None, [], {}, "x", 5, -1, 1.5, True, float("inf"))
    for wrong in wrongs:
        for field in TrainingJobSpec.model_fields.values():
            try:
                TrainingJobSpec.model_validate({field.alias: wrong})
            except ValidationError as error:
                assert "input should" not in describe(error).lower()


def test_paths_begin_where_the_caller_says() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({"profiles": {"default": {"agentImage": "a"}}})
    assert describe(refused.value, "values") == "values.profiles.default.trainerImage: is required: add it"
