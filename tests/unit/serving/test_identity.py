"""Ids of builds and revisions. A release under which one of these changes starts every server anew."""

from __future__ import annotations

import pytest
from modelyard.api.deploymentstatus import CompressionStatus, ServedModelStatus
from modelyard.api.modeldeployment import ModelDeploymentSpec
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
    [(spec(), "83552062", "c60f307074fe19cf"), (FULL, "1eb423c2", "15cf026c25e26b5a")],
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
