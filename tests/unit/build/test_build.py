"""What is made, what is chosen, and what is told when something can't be: with measurements that are given."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modelyard.contract.build import BuildResult
from modelyard_build import build as build_module
from modelyard_build.bench import Bench, Subject
from modelyard_build.build import build
from modelyard_build.measuring.plan import Figures
from modelyard_build.settings import Settings
from modelyard_build.tasks import Answers
from modelyard_build.variants.variant import Plan
from modelyard_models.digest import model_digest
from modelyard_models.failure import Failure
from safetensors.numpy import load_file, save_file

from tests.unit.build.builders import make_settings

ALL = ["none", "bf16", "int8"]


class Machine:
    """Instead of processes: `rates` and share of rows in which a variant `errs`; or how it `fails`."""

    def __init__(self, rates: Mapping[str, float], errs: Mapping[str, float]) -> None:
        self.rates, self.errs = rates, errs
        self.makes: dict[str, Failure] = {}
        self.loads: dict[str, Failure] = {}
        self.made: list[str] = []
        self.measured: list[tuple[Subject, int | None]] = []

    def measure(self, bench: Bench, subject: Subject, count: int | None) -> tuple[Figures, Answers]:
        self.measured.append((subject, count))
        if subject.method in self.loads:
            raise self.loads[subject.method]
        if subject.reference is not None:
            subject.reference.write_text("{}")
        logits: Any = np.zeros((100, 3), np.float32)
        wrong = round(100 * self.errs.get(subject.method, 0.0))
        logits[:wrong, 1], logits[wrong:, 0] = 1, 1
        rate = self.rates[subject.method]
        figures = Figures(
            rows=100,
            max_length=64,
            load_seconds=1,
            latency_milliseconds=2,
            requests_per_second=rate,
            concurrency=8,
        )
        return figures, {"logits": logits, "classes": np.array(list("abc")), "kind": np.array("")}

    def run_child(self, module: str, plan: Path, target: Path, environment: Mapping[str, str]) -> None:
        told = Plan.model_validate_json(plan.read_bytes())
        if told.method in self.makes:
            raise self.makes[told.method]
        self.made.append(told.method)
        (told.target / "weights").write_bytes(b"x" * 10)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine({"none": 100.0, "bf16": 180.0, "int8": 300.0}, {"int8": 0.03})
    monkeypatch.setattr(Bench, "measure", lambda bench, subject, count: made.measure(bench, subject, count))
    monkeypatch.setattr(build_module, "run_child", made.run_child)
    return made


def prepare(root: Path, classifier: Path, **config: Any) -> Settings:
    if not (root / "storage/model").exists():
        shutil.copytree(classifier, root / "storage/model")
    return make_settings(root, **config)


def variants(result: BuildResult) -> dict[str, tuple[bool | None, str | None]]:
    return {v.name: (v.passed, v.reason) for v in result.variants}


def test_auto_serves_the_fastest_that_passes(tmp_path: Path, classifier: Path, machine: Machine) -> None:
    result = build(prepare(tmp_path, classifier, methods=ALL, choose="auto"))
    assert (result.outcome, result.chosen, result.cache_hit) == ("succeeded", "bf16", False)
    assert variants(result)["none"] == (True, None) and variants(result)["bf16"] == (True, None)
    passed, reason = variants(result)["int8"]
    assert not passed and reason == "agreement 0.97, and at least 0.98 is asked for"
    digest = model_digest(tmp_path / "storage/model")
    assert result.digest == digest and result.max_length == 64 and result.task == "text-classification"
    name = f"packages/p/bf16-{digest[7:19]}"
    assert result.reference == f"{name}.json" and (tmp_path / "storage" / result.reference).is_file()
    assert [v.folder for v in result.variants] == ["model", name, None]
    assert result.variants[1].bytes == 10
    # All variants answer the rows that the model itself had time for.
    assert [(s.method, s.runtime, count) for s, count in machine.measured] == [
        ("none", "torch", None), ("bf16", "torch", 100), ("int8", "onnx", 100),
    ]  # fmt: skip


def test_a_wider_gate_lets_the_faster_one_through(tmp_path: Path, classifier: Path, machine: Machine) -> None:
    settings = prepare(tmp_path, classifier, methods=ALL, choose="auto", gate={"minAgreement": 0.97})
    assert build(settings).chosen == "int8"


def test_the_second_build_finds_the_package_without_measuring(
    tmp_path: Path, classifier: Path, machine: Machine
) -> None:
    first = build(prepare(tmp_path, classifier, methods=ALL, choose="auto"))
    for known in ({}, {"digest": first.digest}):
        machine.measured.clear()
        again = build(prepare(tmp_path, classifier, methods=ALL, choose="auto", **known))
        assert again == first.model_copy(update={"cache_hit": True}) and not machine.measured
    package = tmp_path / "storage/packages/p"
    assert not [p for p in package.iterdir() if p.name.startswith(".tmp")]


def test_of_the_variants_only_that_which_is_served_stays(
    tmp_path: Path, classifier: Path, machine: Machine
) -> None:
    result = build(prepare(tmp_path, classifier, methods=ALL, choose="auto"))
    package, digits = tmp_path / "storage/packages/p", str(result.digest)[7:19]
    kept = {f"bf16-{digits}", f"bf16-{digits}.json", f"none-{digits}.json", f"model-{digits}.json"}
    assert {path.name for path in package.iterdir()} == {*kept, "package.json", ".lock"}
    assert (tmp_path / "storage/model/model.safetensors").exists()


def test_what_an_earlier_package_of_the_model_chose_stays_for_its_servers(
    tmp_path: Path, classifier: Path, machine: Machine
) -> None:
    settings = prepare(tmp_path, classifier, methods=ALL, choose="auto")
    first = build(settings)
    served = tmp_path / "storage" / str(first.variants[1].folder)
    (tmp_path / "storage" / str(first.reference)).unlink()
    machine.rates = {"none": 100.0, "bf16": 50.0, "int8": 50.0}
    assert build(settings).chosen == "none"
    assert (served / "weights").exists()


def test_a_model_whose_digest_is_known_is_not_read_again(
    tmp_path: Path, classifier: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(prepare(tmp_path, classifier))

    def never(folder: Path) -> str:
        raise AssertionError

    monkeypatch.setattr("modelyard_build.model.model_digest", never)
    assert build(prepare(tmp_path, classifier, digest=first.digest)).cache_hit


def test_a_model_that_changed_under_its_address_is_built_anew(
    tmp_path: Path, classifier: Path, machine: Machine
) -> None:
    first = build(prepare(tmp_path, classifier))
    (tmp_path / "storage/model/tokenizer_config.json").write_text("{}")
    again = build(prepare(tmp_path, classifier))
    assert not again.cache_hit and again.digest != first.digest
    with pytest.raises(Failure) as caught:
        build(prepare(tmp_path, classifier, digest=first.digest))
    assert caught.value.reason == "ModelChanged"


def test_a_killed_builds_successor_makes_only_what_is_missing(
    tmp_path: Path, classifier: Path, machine: Machine
) -> None:
    machine.loads["int8"] = Failure("StorageError", "the volume is away", temporary=True)
    settings = prepare(tmp_path, classifier, methods=ALL, choose="auto")
    with pytest.raises(Failure):
        build(settings)
    assert not (tmp_path / "storage/packages/p/package.json").exists()
    machine.loads.clear()
    machine.made.clear()
    assert build(settings).outcome == "succeeded" and machine.made == []


@pytest.mark.parametrize(
    ("choose", "outcome", "reason"),
    [("none", "succeeded", None), ("auto", "succeeded", None), ("int8", "failed", "CompressionFailed")],
)
def test_what_can_not_be_made_fails_the_build_only_if_it_was_asked_for(
    tmp_path: Path, classifier: Path, machine: Machine, choose: str, outcome: str, reason: str | None
) -> None:
    machine.makes["int8"] = Failure("CompressionFailed", "torch can't export the model")
    result = build(prepare(tmp_path, classifier, methods=ALL, choose=choose))
    assert result.outcome == outcome and (result.failure.reason if result.failure else None) == reason
    assert variants(result)["int8"] == (False, "torch can't export the model")
    assert result.variants[2].folder is None
    assert (tmp_path / "storage/packages/p/package.json").exists() == (outcome == "succeeded")
    if result.failure is not None:
        assert result.failure.exit_code == 2 and "torch can't export" in result.failure.message


@pytest.mark.parametrize(
    "failure",
    [
        Failure("ModelUnproven", "its answer holds values that are no numbers"),
        Failure("StartFailed", "the server could not begin", temporary=True),
    ],
)
def test_what_can_not_be_served_is_no_variant(
    tmp_path: Path, classifier: Path, machine: Machine, failure: Failure
) -> None:
    machine.loads["bf16"] = failure
    result = build(prepare(tmp_path, classifier, methods=ALL, choose="auto"))
    assert result.chosen == "none" and variants(result)["bf16"][0] is False


def test_a_variant_that_was_asked_for_and_loses_too_much_fails_the_build_with_its_figures(
    tmp_path: Path, classifier: Path, machine: Machine
) -> None:
    result = build(prepare(tmp_path, classifier, methods=["none", "int8"], choose="int8"))
    assert result.failure is not None and result.failure.reason == "CompressionGateFailed"
    assert "agreement 0.97" in result.failure.message and "wider gate" in result.failure.message
    assert result.variants[1].requests_per_second == 300.0 and result.chosen is None


def test_the_method_that_is_chosen_is_made_even_if_it_is_not_listed(
    tmp_path: Path, classifier: Path, machine: Machine
) -> None:
    assert build(prepare(tmp_path, classifier, methods=["none"], choose="bf16")).chosen == "bf16"


def test_a_model_that_can_not_be_served_fails_with_its_own_reason(
    tmp_path: Path, classifier: Path, machine: Machine
) -> None:
    machine.loads["none"] = Failure("ModelInvalid", "its tokenizer has 9 tokens, the model 8")
    with pytest.raises(Failure) as caught:
        build(prepare(tmp_path, classifier, methods=ALL, choose="auto"))
    assert caught.value.reason == "ModelInvalid" and machine.made == []


def test_what_is_stored_in_bfloat16_is_its_own_variant(
    tmp_path: Path, classifier: Path, machine: Machine
) -> None:
    import ml_dtypes

    settings = prepare(tmp_path, classifier, methods=["none", "bf16"], choose="bf16")
    path = tmp_path / "storage/model/model.safetensors"
    save_file({name: value.astype(ml_dtypes.bfloat16) for name, value in load_file(path).items()}, path)
    result = build(settings)
    assert result.chosen == "bf16" and machine.made == []
    assert result.variants[1].folder == "model" and result.variants[1].agreement == 1.0
    # It is the model itself, so the model's answers are its own.
    assert result.reference is not None and result.reference.startswith("packages/p/none-")


def test_what_a_killed_download_left_locked_is_freed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise Failure("ModelUnreachable", "the hub is away", temporary=True)

    monkeypatch.setattr(build_module, "find_model", unreachable)
    # On storage without locks a file stands for one, and would be waited for without end.
    settings = make_settings(tmp_path)
    lock = settings.scratch / "x/.cache/huggingface/download/model.safetensors.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("")
    lock.with_suffix(".incomplete").write_text("half")
    with pytest.raises(Failure):
        build(settings)
    assert not lock.exists() and lock.with_suffix(".incomplete").exists()


def leave_download(settings: Settings) -> Path:
    archive = settings.scratch / "archive"
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(b"x")
    return archive


@pytest.mark.parametrize(
    ("failure", "kept"),
    [
        (Failure("ModelInvalid", "the archive can't be unpacked"), False),
        (Failure("ModelUnreachable", "the hub is away", temporary=True), True),
        (OSError(28, "No space left on device", "x"), False),
        (OSError(5, "Input/output error", "x"), True),
    ],
)
def test_what_was_downloaded_is_kept_for_another_try_only(
    tmp_path: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, kept: bool
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(build_module, "find_model", fail)
    settings = prepare(tmp_path, classifier)
    archive = leave_download(settings)
    with pytest.raises(Failure):
        build(settings)
    assert archive.exists() == kept


@pytest.mark.parametrize("config", [{}, {"measure": False}, {"methods": ["int8"], "choose": "int8"}])
def test_a_build_that_has_ended_keeps_no_download(
    tmp_path: Path, classifier: Path, machine: Machine, config: dict[str, Any]
) -> None:
    settings = prepare(tmp_path, classifier, **config)
    archive = leave_download(settings)
    build(settings)
    assert not archive.exists()


def test_a_full_storage_is_named(
    tmp_path: Path, classifier: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "storage/x"))

    monkeypatch.setattr(build_module, "find_model", full)
    with pytest.raises(Failure) as caught:
        build(prepare(tmp_path, classifier))
    assert caught.value.reason == "StorageFull"


def test_a_claim_that_can_not_be_read_is_the_models(
    tmp_path: Path, classifier: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "sources/pvc/other/model/config.json"))

    monkeypatch.setattr(build_module, "find_model", denied)
    with pytest.raises(Failure) as caught:
        build(prepare(tmp_path, classifier))
    assert caught.value.reason == "ModelForbidden"


def test_the_result_of_a_trained_model_refers_to_its_own_answers(
    tmp_path: Path, classifier: Path, machine: Machine
) -> None:
    settings = prepare(tmp_path, classifier)
    (tmp_path / "storage/model/reference.json").write_text(json.dumps({"task": "text-classification"}))
    result = build(settings)
    assert result.reference == "model/reference.json"
    assert machine.measured[0][0].reference is None  # none are left in its place


def test_what_another_server_serves_is_checked_and_not_measured(
    tmp_path: Path, classifier: Path, machine: Machine
) -> None:
    settings = prepare(tmp_path, classifier, measure=False, task=None)
    result = build(settings)
    assert (result.outcome, result.chosen, machine.measured) == ("succeeded", "none", [])
    (whole,) = result.variants
    assert whole.folder == "model"
    assert whole.bytes > 0
    assert build(settings).cache_hit
    (tmp_path / "storage/model/model.safetensors").rename(tmp_path / "storage/model/pytorch_model.bin")
    with pytest.raises(Failure) as refused:
        build(prepare(tmp_path, classifier, measure=False, package="packages/other"))
    assert refused.value.reason == "UnsafeModel"
