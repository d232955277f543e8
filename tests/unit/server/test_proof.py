"""A server is ready when its model has given the answers that it must give, and says why when it has not."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from modelyard.contract.layout import MODEL_MANIFEST, MODEL_REFERENCE
from modelyard.contract.model import EmbeddingReference, EmbeddingRow
from modelyard_server.failure import Failure
from modelyard_server.package.folder import Package
from modelyard_server.serving.predictor import Predictor
from modelyard_server.tasks.classification import ClassHead
from safetensors.torch import load_file, save_file

from tests.unit.server.models import TEXTS, make_service, serving, with_model, write_classifier, write_encoder
from tests.unit.trainer.builders import BERT
from tests.unit.trainer.exported import make_tokenizer, write_model

CLASSIFY, EMBED = "text-classification", "embeddings"


async def nothing(model: Predictor) -> None:
    """Being ready is enough."""


def edit_reference(folder: Path, change: Callable[[Any], None]) -> None:
    path = folder / MODEL_REFERENCE
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))


def edit_weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def refused(folder: Path, task: str = CLASSIFY, **config: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        with_model(folder, task, nothing, **config)
    return caught.value


def write_reference(folder: Path) -> None:
    """Of an embeddings model, what it answers now."""
    made: list[EmbeddingRow] = []

    async def ask(model: Predictor) -> None:
        for text in TEXTS:
            [row] = await model.encode([text], truncate=True)
            [vector] = await model.answer([row])
            made.append(EmbeddingRow(text=text, input_ids=row.ids.tolist(), embedding=vector.tolist()))

    with_model(folder, EMBED, ask)
    reference = EmbeddingReference(task=EMBED, dtype="float32", tolerance=1e-3, rows=made)
    (folder / MODEL_REFERENCE).write_text(reference.model_dump_json(by_alias=True))


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A classifier as the trainer leaves it, with its reference."""
    _, folder = write_model(tmp_path)
    return folder


@pytest.fixture
def embedder(tmp_path: Path) -> Path:
    """An encoder with a reference."""
    folder = tmp_path / "model"
    write_encoder(folder)
    write_reference(folder)
    return folder


@pytest.mark.parametrize("variant", ["none", "fp32", "bf16"])
def test_the_trainers_model_gives_its_reference_answers(exported: Path, variant: str) -> None:
    with_model(exported, CLASSIFY, nothing, variant=variant)


def test_an_embeddings_model_gives_its_reference_answers(embedder: Path) -> None:
    with_model(embedder, EMBED, nothing)


@pytest.mark.parametrize(("name", "task"), [("exported", CLASSIFY), ("embedder", EMBED)])
def test_other_weights_are_found_out(name: str, task: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)

    def stir(weights: dict[str, Any]) -> None:
        for key, tensor in weights.items():
            if key.endswith("query.weight") or "classifier" in key:
                weights[key] = torch.randn_like(tensor)

    edit_weights(folder, stir)
    failure = refused(folder, task)
    assert failure.reason == "ModelUnproven"
    assert "its answers differ from reference.json by" in failure.message


@pytest.mark.parametrize(("name", "task"), [("exported", CLASSIFY), ("embedder", EMBED)])
def test_another_tokenizer_is_found_out(
    name: str, task: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(name)
    make_tokenizer(tmp_path / "other", BERT | {"vocab_size": 270})
    (folder / "tokenizer.json").write_bytes((tmp_path / "other" / "tokenizer.json").read_bytes())
    failure = refused(folder, task)
    assert failure.reason == "ModelUnproven"
    assert "its tokenizer makes other tokens" in failure.message


def test_the_answers_that_the_config_names_count_in_place_of_the_folders_own(exported: Path) -> None:
    named = exported.parent / "named.json"
    shutil.copyfile(exported / MODEL_REFERENCE, named)

    def move(about: Any) -> None:
        about["rows"][0]["logProbs"][0] += 1

    edit_reference(exported, move)
    assert refused(exported).reason == "ModelUnproven"
    with_model(exported, CLASSIFY, nothing, reference="named.json")
    shutil.move(exported / MODEL_REFERENCE, named)
    with_model(exported, CLASSIFY, nothing)
    assert refused(exported, reference="named.json").reason == "ModelUnproven"


def test_answers_that_the_config_names_must_be_there(exported: Path) -> None:
    failure = refused(exported, reference="gone.json")
    assert failure.reason == "ModelInvalid"
    assert failure.message == "there is no file gone.json in the storage; build the package anew"


def test_a_model_that_modelyard_has_trained_gets_no_token_types(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_encoder(folder)
    about = json.loads((folder / "tokenizer.json").read_text())
    for piece in about["post_processor"]["single"]:
        next(iter(piece.values()))["type_id"] = 1
    (folder / "tokenizer.json").write_text(json.dumps(about))
    told = json.loads((folder / "tokenizer_config.json").read_text())
    told["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(told))

    async def see(model: Predictor) -> None:
        found.append(model.package.tokens.encode("a dog").types is not None)

    found: list[bool] = []
    with_model(folder, EMBED, see)
    (folder / MODEL_MANIFEST).write_text("{}")
    with_model(folder, EMBED, see)
    assert found == [True, False]


def test_an_answer_within_the_tolerance_is_near_enough_and_one_beyond_is_not(exported: Path) -> None:
    def move(by: float) -> Callable[[Any], None]:
        def change(about: Any) -> None:
            about["tolerance"] = 0.5
            about["rows"][0]["logProbs"][0] += by

        return change

    edit_reference(exported, move(0.4))
    with_model(exported, CLASSIFY, nothing)
    edit_reference(exported, move(0.4))
    assert refused(exported).reason == "ModelUnproven"
    # The coarser number format is allowed more.
    with_model(exported, CLASSIFY, nothing, variant="bf16")


def test_a_reference_of_another_task_is_not_compared_with(exported: Path) -> None:
    with_model(exported, EMBED, nothing)


def test_a_broken_reference_is_refused(exported: Path) -> None:
    edit_reference(exported, lambda about: about.pop("rows"))
    assert "reference.json is broken" in refused(exported).message


def test_a_class_that_the_model_has_not_is_refused(exported: Path) -> None:
    edit_reference(exported, lambda about: about["rows"][0]["candidates"].__setitem__(0, 7))
    assert (
        "tells 3 classes apart; its config.json names 3, and its reference.json asks for 8"
        in refused(exported).message
    )


@pytest.mark.parametrize("task", [CLASSIFY, EMBED])
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, task: str) -> None:
    folder = tmp_path / "model"
    (write_classifier if task == CLASSIFY else write_encoder)(folder)

    def spoil(weights: dict[str, Any]) -> None:
        key = next(key for key in weights if key.endswith("word_embeddings.weight"))
        weights[key][300, 0] = float("nan")  # of a token that no probe holds

    edit_weights(folder, spoil)
    failure = refused(folder, task)
    assert failure.reason == "ModelInvalid"
    assert "word_embeddings.weight holds values that are no numbers" in failure.message


def test_a_model_without_reference_must_answer_with_as_many_classes_as_it_names(
    classifier: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(classifier, tmp_path / "model")

    class Wrong(ClassHead):
        """One that has read another config.json."""

        def __init__(self, package: Package) -> None:
            super().__init__(package)
            self.labels = ["one", "two"]

    async def whole() -> None:
        service = make_service(folder, CLASSIFY)
        async with serving(service) as model:
            await Wrong(model.package).prove(model)

    with pytest.raises(
        Failure, match=r"tells 3 classes apart; its config\.json names 2: correct id2label"
    ) as caught:
        asyncio.run(whole())
    assert caught.value.reason == "ModelInvalid"
