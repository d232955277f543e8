"""Which model is built from, what it is for, and what is refused."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from modelyard.contract.layout import MODEL_MANIFEST
from modelyard_build.model import find_model, find_task
from modelyard_build.tasks import TASKS
from modelyard_models.digest import model_digest
from modelyard_models.failure import Failure
from modelyard_models.modules import MODULES
from modelyard_server.tasks.pooling import Pooling, read_pooling

from tests.unit.build.builders import make_settings
from tests.unit.trainer.web import WebServer


def refused(call: Any, *args: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        call(*args)
    return caught.value


def put(classifier: Path, folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copytree(classifier, folder))


def test_a_model_in_our_storage_is_read_where_it_lies(tmp_path: Path, classifier: Path) -> None:
    folder = put(classifier, tmp_path / "storage/runs/m")
    digest = model_digest(folder)
    for storage, uri in (("pvc://store", "pvc://store/runs/m"), ("pvc://store/", "pvc://store/runs/m/")):
        found = find_model(make_settings(tmp_path, storage=storage, uri=uri, digest=digest))
        assert (found.folder, found.digest, found.revision) == (folder, digest, None)
    (tmp_path / "storage/packages").mkdir()
    assert not (tmp_path / "storage/hub").exists()


def test_a_claim_whose_name_begins_as_ours_is_another(tmp_path: Path, classifier: Path) -> None:
    put(classifier, tmp_path / "sources/pvc/store-2/m")
    found = find_model(make_settings(tmp_path, uri="pvc://store-2/m"))
    assert found.folder.parent == tmp_path / "storage/hub"


def test_the_digest_of_a_trained_model_is_the_same_on_another_claim(tmp_path: Path, classifier: Path) -> None:
    there = put(classifier, tmp_path / "sources/pvc/other/m")
    for name in (MODEL_MANIFEST, "reference.json"):
        (there / name).write_text("{}")
    (there / "README.md").write_text("a card")
    digest = model_digest(there)
    found = find_model(make_settings(tmp_path, uri="pvc://other/m", digest=digest))
    assert found.digest == digest and (found.folder / "modelyard.files.json").is_file()
    assert found.folder.is_relative_to(tmp_path / "storage/hub")


def test_another_model_than_the_one_that_was_trained_is_refused(tmp_path: Path, classifier: Path) -> None:
    put(classifier, tmp_path / "storage/model")
    failure = refused(find_model, make_settings(tmp_path, digest="sha256-0"))
    assert failure.reason == "ModelChanged" and not failure.temporary and "train it again" in failure.message


def edit_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def edit_missing(folder: Path) -> None:
    (folder / "config.json").unlink()


def edit_pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


@pytest.mark.parametrize(
    ("edit", "reason"),
    [(edit_pickle, "UnsafeModel"), (edit_missing, "ModelInvalid"), (edit_pointer, "ModelInvalid")],
)
@pytest.mark.parametrize("where", ["storage/model", "sources/pvc/other/model"])
def test_what_can_not_be_served_is_refused_wherever_it_lies(
    tmp_path: Path, classifier: Path, edit: Any, reason: str, where: str
) -> None:
    edit(put(classifier, tmp_path / where))
    uri = "pvc://store/model" if where.startswith("storage") else "pvc://other/model"
    assert refused(find_model, make_settings(tmp_path, uri=uri)).reason == reason


@pytest.mark.parametrize("uri", ["pvc://store/nowhere", "pvc://other/nowhere"])
def test_a_folder_that_is_not_there_is_not_found(tmp_path: Path, uri: str) -> None:
    assert refused(find_model, make_settings(tmp_path, uri=uri)).reason == "ModelNotFound"


def test_an_address_of_no_form_is_the_configs_fault(tmp_path: Path) -> None:
    assert (
        refused(find_model, make_settings(tmp_path, uri="s3://bucket/model")).reason == "InvalidBuildConfig"
    )


def test_a_model_of_a_hub_is_fetched_once_and_its_revision_told(
    tmp_path: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "c0ffee" * 6 + "beef"
    with WebServer() as web:
        monkeypatch.setenv("HF_ENDPOINT", web.url)
        web.models["org/name"] = (
            commit,
            {p.name: p.read_bytes() for p in classifier.iterdir() if p.is_file()},
        )
        first = find_model(make_settings(tmp_path, uri="hf://org/name"))
        fetched = len(web.requests)
        again = find_model(make_settings(tmp_path, uri="hf://org/name"))
        assert first == again and first.revision == commit
        assert len(web.requests) == fetched + 1  # which commit it is
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert refused(find_model, make_settings(tmp_path, uri="hf://org/name")).exit_code == 75


def write_config(folder: Path, **about: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(about))
    return folder


def test_the_task_is_what_was_told_else_what_the_folder_says(tmp_path: Path) -> None:
    classifier = write_config(tmp_path / "c", architectures=["BertForSequenceClassification"])
    causal = write_config(tmp_path / "g", architectures=["LlamaForCausalLM"])
    older = write_config(tmp_path / "o", architectures=["GPT2LMHeadModel"])
    sentences = write_config(tmp_path / "s", architectures=["BertForSequenceClassification"])
    (sentences / "modules.json").write_text("[]")
    trained = write_config(tmp_path / "t", architectures=["LlamaForSequenceClassification"])
    (trained / MODEL_MANIFEST).write_text('{"task": "text-classification"}')
    told = [find_task(None, folder, "uri") for folder in (classifier, causal, older, sentences, trained)]
    assert told == [
        "text-classification", "text-generation", "text-generation", "embeddings", "text-classification",
    ]  # fmt: skip
    assert find_task("embeddings", classifier, "uri") == "embeddings"
    assert find_task("text-classification", write_config(tmp_path / "x"), "uri") == "text-classification"


@pytest.mark.parametrize(
    ("task", "about", "said"),
    [
        (None, {"architectures": ["BertModel"]}, "set spec.task to one of text-classification, embeddings"),
        (None, {}, "its architecture is unknown"),
        (
            "text-classification",
            {"architectures": ["BertForMaskedLM"]},
            "'BertForMaskedLM', which has no head for",
        ),
        (
            "text-generation",
            {"architectures": ["BertForSequenceClassification"]},
            "no head for text-generation",
        ),
        ("translation", {"architectures": ["T5ForConditionalGeneration"]}, "translation is not served yet"),
    ],
)
def test_a_task_that_the_model_can_not_have_is_a_mismatch(
    tmp_path: Path, task: str | None, about: dict[str, Any], said: str
) -> None:
    failure = refused(find_task, task, write_config(tmp_path, **about), "pvc://store/m")
    assert failure.reason == "TaskMismatch" and said in failure.message


def test_a_config_that_is_no_object_is_invalid(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]")
    assert refused(find_task, None, tmp_path, "uri").reason == "ModelInvalid"


@pytest.mark.parametrize(
    ("task", "mapping"),
    [
        ("text-classification", "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES"),
        ("text-generation", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
    ],
)
def test_what_transformers_has_for_a_task_fits_it(task: str, mapping: str) -> None:
    from transformers.models.auto import modeling_auto

    named = getattr(modeling_auto, mapping).values()
    names = [name for value in named for name in ((value,) if isinstance(value, str) else value)]
    assert len(names) > 50
    assert not {name for name in names if not TASKS[task].fits(name)}
    assert not TASKS[task].fits("T5ForConditionalGeneration") and not TASKS[task].fits("BertModel")


def write_sentences(classifier: Path, folder: Path, path: str = "1_Pooling") -> Path:
    """A folder for sentence-transformers, with what a hub has beside it."""
    put(classifier, folder)
    modules = [("", "Transformer"), (path, "Pooling"), ("2_Normalize", "Normalize")]
    (folder / MODULES).write_text(
        json.dumps([
            {"idx": i, "name": str(i), "path": at, "type": f"sentence_transformers.models.{kind}"}
            for i, (at, kind) in enumerate(modules)
        ])
    )  # fmt: skip
    for name in ("1_Pooling", "onnx"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (folder / "1_Pooling/notes.md").write_text("no model has a use for it")
    return folder


def pack(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        file.add(folder, "model")
    return buffer.getvalue()


@pytest.mark.parametrize("origin", ["hub", "claim", "archive"])
def test_a_model_for_sentence_transformers_keeps_its_modules(
    tmp_path: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    folder = write_sentences(classifier, tmp_path / "sources/pvc/other/m")
    with WebServer() as web:
        monkeypatch.setenv("HF_ENDPOINT", web.url)
        web.models["org/name"] = (
            "c0ffee" * 6 + "beef",
            {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()},
        )
        web.files["/m.tar.gz"] = pack(folder)
        uris = {"hub": "hf://org/name", "claim": "pvc://other/m", "archive": f"{web.url}/m.tar.gz"}
        found = find_model(make_settings(tmp_path, uri=uris[origin]))
    assert read_pooling(found.folder) == Pooling("cls", normalised=True)
    kept = {p.relative_to(found.folder).as_posix() for p in found.folder.rglob("*") if p.is_file()}
    assert {name for name in kept if "/" in name} == {"1_Pooling/config.json"}


@pytest.mark.parametrize("path", ["../1_Pooling", "/etc", "a/../../b"])
def test_a_module_outside_of_its_model_is_refused(tmp_path: Path, classifier: Path, path: str) -> None:
    folder = write_sentences(classifier, tmp_path / "sources/pvc/other/m", path)
    failure = refused(find_model, make_settings(tmp_path, uri="pvc://other/m"))
    assert failure.reason == "ModelInvalid" and "outside the model's folder" in failure.message
    assert refused(read_pooling, folder).reason == "ModelInvalid"


def test_a_copy_of_a_fetched_folder_is_known_by_its_bytes_and_not_by_its_list(
    tmp_path: Path, classifier: Path
) -> None:
    put(classifier, tmp_path / "sources/pvc/other/m")
    fetched = find_model(make_settings(tmp_path, uri="pvc://other/m"))
    own, there = (
        put(fetched.folder, tmp_path / "storage/own"),
        put(fetched.folder, tmp_path / "sources/pvc/other/copy"),
    )
    assert find_model(make_settings(tmp_path, uri="pvc://store/own")).digest == fetched.digest
    assert find_model(make_settings(tmp_path, uri="pvc://other/copy")) == fetched
    for folder, uri in ((own, "pvc://store/own"), (there, "pvc://other/copy")):
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
        assert find_model(make_settings(tmp_path, uri=uri)).digest != fetched.digest


def test_a_fetched_folder_that_servers_use_is_left_alone(tmp_path: Path, classifier: Path) -> None:
    put(classifier, tmp_path / "sources/pvc/other/m")
    fetched = find_model(make_settings(tmp_path, uri="pvc://other/m"))
    put(fetched.folder, tmp_path / "sources/pvc/other/copy")
    for uri in ("pvc://other/copy", "pvc://other/m", "pvc://other/copy"):
        before = find_model(make_settings(tmp_path, uri=uri)).folder.stat().st_ino
        assert find_model(make_settings(tmp_path, uri=uri)).folder.stat().st_ino == before
