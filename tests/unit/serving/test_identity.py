"""Ids of builds and revisions. A release under which one of these changes starts every server anew."""

from __future__ import annotations

import pytest
from modelyard.api.deploymentstatus import CompressionStatus, ServedModelStatus
from modelyard.api.modeldeployment import ModelDeploymentSpec
from modelyard.api.serving import Compression, CompressionGate, Server
from modelyard.contract.build import BuildConfig
from modelyard.serving.building.config import build_config
from modelyard.serving.revisions.identity import find_id
from modelyard.serving.source import Source
from modelyard.workloads.storage import Place

MODEL = ServedModelStatus(uri="pvc://a/m", digest="sha256-1", task="text-classification")
PACKAGE = CompressionStatus(digest="p", folder="m", runtime="torch", chosen="none")
SOURCE = Source("pvc://a/m", digest="sha256-1", task="text-classification", dataset="pvc://a/datasets/d")


def spec(**fields: object) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate({"model": {"trainingJobRef": {"name": "a"}}, **fields})


FULL = spec(
    engine={"type": "builtin"},
    compression={"method": "auto", "gate": {"metric": "accuracy", "maxDrop": 0.01}},
    server={"resources": {"limits": {"cpu": "2"}}, "maxLength": 64, "maxBatchTokens": 512},
)


@pytest.mark.parametrize(
    ("words", "revision", "build"),
    [(spec(), "83552062", "c60f307074fe19cf"), (FULL, "1eb423c2", "0f2550394e08f604")],
)
def test_what_an_earlier_release_has_made_is_found_again(
    words: ModelDeploymentSpec, revision: str, build: str
) -> None:
    assert find_id(words, MODEL, PACKAGE) == revision
    assert build_config(words, SOURCE, Place("a", ""))[0] == build


def test_a_default_that_is_written_out_is_no_other_word() -> None:
    written = spec(engine={"type": "auto"}, server={"maxBatchTokens": "auto"}, compression={"method": "none"})
    assert find_id(written, MODEL, PACKAGE) == find_id(spec(), MODEL, PACKAGE)
    assert build_config(written, SOURCE, Place("a", ""))[0] == build_config(spec(), SOURCE, Place("a", ""))[0]


@pytest.mark.parametrize(
    "words",
    [
        {"server": {"maxLength": 32}},
        {"server": {"resources": {"limits": {"cpu": "1"}}}},
        {"server": {"podTemplate": {"metadata": {"labels": {"a": "b"}}}}},
        {"engine": {"type": "builtin"}},
        {"storage": {"uri": "pvc://b"}},
        {"storage": {"claim": {}}},
    ],
)
def test_other_words_on_the_pods_are_another_revision(words: dict[str, object]) -> None:
    assert find_id(spec(**words), MODEL, PACKAGE) != find_id(spec(), MODEL, PACKAGE)


def test_words_on_a_claim_of_its_own_are_none_on_pods() -> None:
    small, large = (spec(storage={"claim": {"size": size}}) for size in ("1Gi", "2Gi"))
    assert find_id(small, MODEL, PACKAGE) == find_id(large, MODEL, PACKAGE)


@pytest.mark.parametrize(
    "words",
    [
        {"scaling": {"maxReplicas": 9}},
        {"traffic": {"maxQueue": 3}},
        {"gateway": {"replicas": 3}},
        {"profile": "other"},
        {"replicas": 4},
    ],
)
def test_nothing_else_is(words: dict[str, object]) -> None:
    assert find_id(spec(**words), MODEL, PACKAGE) == find_id(spec(), MODEL, PACKAGE)
    assert (
        build_config(spec(**words), SOURCE, Place("a", ""))[0]
        == build_config(spec(), SOURCE, Place("a", ""))[0]
    )


def build(**fields: object) -> tuple[str, BuildConfig]:
    """Id and config of a build of SOURCE."""
    return build_config(spec(**fields), SOURCE, Place("a", ""))


def test_a_gate_that_judges_nothing_builds_nothing_anew() -> None:
    assert build(compression={"gate": {"minAgreement": 0.9}})[0] == build()[0]
    other = build(compression={"method": "int8", "gate": {"minAgreement": 0.9}})
    assert other[0] != build(compression={"method": "int8"})[0]
    assert other[1].gate.min_agreement == 0.9


def test_other_defaults_of_a_release_build_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    wide, patient = CompressionGate(min_agreement=0.5), 9
    before = build(compression={"method": "int8"}), build()
    for model, field, change in (
        (Compression, "gate", {"default_factory": lambda: wide}),
        (Server, "max_batch_delay_milliseconds", {"default": patient}),
    ):
        for name, value in change.items():
            monkeypatch.setattr(model.model_fields[field], name, value)
        model.model_rebuild(force=True)
    ModelDeploymentSpec.model_rebuild(force=True)
    try:
        after = build(compression={"method": "int8"}), build()
    finally:
        monkeypatch.undo()
        for changed in (Compression, Server, ModelDeploymentSpec):
            changed.model_rebuild(force=True)
    assert after[0][1].gate.min_agreement == 0.5
    assert after[1][1].max_batch_delay_milliseconds == patient
    assert [id for id, _ in after] == [id for id, _ in before]


def test_what_the_user_says_of_batches_is_measured() -> None:
    _, config = build(server={"maxBatchTokens": 512, "maxBatchDelayMilliseconds": 9})
    assert (config.max_batch_tokens, config.max_batch_delay_milliseconds) == (512, 9)
    _, unsaid = build()
    assert (unsaid.max_batch_tokens, unsaid.max_batch_delay_milliseconds) == (None, 5)
    assert (
        len({build(server=s)[0] for s in ({}, {"maxBatchTokens": 512}, {"maxBatchDelayMilliseconds": 9})})
        == 3
    )


def test_texts_that_the_user_names_take_the_place_of_the_jobs_rows() -> None:
    named, config = build(compression={"method": "auto", "texts": ["How are you?"]})
    assert (config.texts, config.dataset) == (["How are you?"], None)
    assert named != build(compression={"method": "auto"})[0]
    assert build()[1].dataset == SOURCE.dataset
