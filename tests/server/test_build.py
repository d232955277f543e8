"""A real build, process for process: a classifier and its data become a package, which a real server serves."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modelyard.contract import codes
from modelyard.contract.build import BuildResult
from modelyard_build.gate import choose
from modelyard_models.digest import model_digest
from modelyard_trainer.prepare.shards import ShardWriter

from tests.server.running import LONGEST, running
from tests.unit.server.models import LABELS, TEXTS, write_encoder, write_generator
from tests.unit.server.test_classification import ask_pipeline
from tests.unit.server.test_proof import edit_weights

ALL = ["none", "bf16", "int8"]


class Build:
    """A storage, and the processes that build in it."""

    def __init__(self, root: Path, classifier: Path) -> None:
        self.root, self.storage = root, root / "storage"
        shutil.copytree(classifier, self.storage / "model")
        write_dataset(self.storage / "datasets/d", classifier)

    def start(self, **config: Any) -> subprocess.Popen[bytes]:
        told = {
            "package": "packages/p", "storage": "pvc://store", "uri": "pvc://store/model", "methods": ALL,
            "choose": "auto", "gate": {"minAgreement": 0.9}, "dataset": "pvc://store/datasets/d",
        } | config  # fmt: skip
        (self.root / "build.json").write_text(json.dumps(told))
        environment = {
            **os.environ,
            codes.ENV_BUILD_CONFIG: str(self.root / "build.json"),
            codes.ENV_STORAGE: str(self.storage),
            codes.ENV_RUNTIME_DIR: str(self.root),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        with (self.root / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "modelyard_build"], env=environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def finish(self, process: subprocess.Popen[bytes]) -> tuple[int, BuildResult]:
        try:
            code = process.wait(4 * LONGEST)
        finally:
            kill(process)
        return code, BuildResult.model_validate_json((self.root / codes.RESULT_FILE).read_bytes())

    def run(self, **config: Any) -> tuple[int, BuildResult]:
        return self.finish(self.start(**config))

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LONGEST
        while not condition():
            assert time.monotonic() < deadline, (self.root / "log").read_text()
            time.sleep(0.02)


def kill(process: subprocess.Popen[bytes]) -> None:
    """With its children, as a container's end does."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def list_group(group: int) -> list[int]:
    """The processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                found.append(int(path.parent.name))
    return found


def write_dataset(folder: Path, classifier: Path) -> None:
    """40 rows, in the data's order of classes, which is not the head's. Half of them are labelled as it answers."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(classifier)
    texts = [f"{text} {word}" for word in ("fox", "dog", "bad", "good", "words", "it") for text in TEXTS][:40]
    names = sorted(LABELS)
    found = [max(scores, key=lambda name: scores[name]) for scores in ask_pipeline(classifier, texts)]
    labels = [names.index(name) if i % 2 else (names.index(name) + 1) % 3 for i, name in enumerate(found)]
    writer = ShardWriter(folder / "validation", labelled=True)
    writer.write([tokenizer(text)["input_ids"] for text in texts], labels)
    writer.close()
    (folder / "report.json").write_text(json.dumps({"labels": names}))


@pytest.fixture
def build(tmp_path: Path, classifier: Path) -> Build:
    return Build(tmp_path, classifier)


def test_a_model_becomes_a_package_that_is_served_and_found_again(build: Build, tmp_path: Path) -> None:
    digest = model_digest(build.storage / "model")
    code, result = build.run(digest=digest)
    log = (build.root / "log").read_text()
    assert (code, result.outcome, result.digest, result.cache_hit) == (0, "succeeded", digest, False), log
    assert [(v.name, v.reason) for v in result.variants] == [(name, None) for name in ALL], log
    none, bf16, int8 = result.variants
    assert none.metrics["accuracy"] == 0.5  # as labelled
    assert (
        all(v.agreement is not None and v.agreement >= 0.9 for v in result.variants) and none.agreement == 1.0
    )
    assert none.bytes > 1.5 * bf16.bytes and int8.bytes > 0
    for variant in result.variants:
        assert variant.load_seconds and variant.latency_milliseconds and variant.requests_per_second
        assert variant.concurrency in (1, 4, 8, 16, 32, 64, 128)
    best = choose(result.variants)
    assert best is not None and result.chosen == best.name
    assert "Traceback" not in log

    again = build.run(digest=digest)
    assert again == (0, result.model_copy(update={"cache_hit": True}))

    for method in ALL:
        serve(build, method, tmp_path / method)


def serve(build: Build, method: str, root: Path) -> None:
    """A server of the variant is ready, and one that is told another variant's answers is not."""
    package = f"packages/{method}"
    _, result = build.run(package=package, methods=[method], choose=method)
    [variant] = [v for v in result.variants if v.name == method]
    assert result.digest is not None and variant.folder is not None
    reference = f"{package}/{method}-{result.digest[7:19]}.json"
    told = json.loads((build.storage / reference).read_text())
    assert len(told["rows"]) == 8 and told["split"] == "validation"
    folder = build.storage / variant.folder
    config: dict[str, Any] = {"storage": build.storage, "variant": method, "runtime": variant.runtime}
    with running(folder, root, reference=reference, **config) as server:
        server.until_ready()
        response = server.infer(*TEXTS, parameters={"scores": True})
        scores = np.array(response.json()["outputs"][2]["data"]).reshape(len(TEXTS), 3)
        expected = ask_pipeline(build.storage / "model", TEXTS)
        wanted = np.array([[by_name[name] for name in LABELS] for by_name in expected])
        assert np.abs(scores - wanted).max() < (1e-5 if method == "none" else 0.25)
    for row in told["rows"]:
        row["logProbs"] = [value - 2 for value in row["logProbs"]]
    (build.storage / "other.json").write_text(json.dumps(told))
    with running(folder, root / "other", reference="other.json", **config) as server:
        assert server.wait() == codes.EXIT_USER_ERROR
        assert json.loads(server.result.read_text())["reason"] == "ModelUnproven"


def test_a_killed_builds_successor_goes_on(build: Build) -> None:
    config = {"methods": ["none", "bf16"], "choose": "bf16", "gate": {"minAgreement": 0.5}}
    first = build.start(**config)
    build.until(lambda: bool(list(build.storage.glob("packages/p/bf16-*/model.safetensors"))))
    kill(first)
    [made] = build.storage.glob("packages/p/bf16-*")
    before = (made / "model.safetensors").stat().st_mtime_ns
    code, result = build.run(**config)
    assert code == 0 and not result.cache_hit and result.variants[1].passed
    assert (made / "model.safetensors").stat().st_mtime_ns == before
    assert "found" in (build.root / "log").read_text()


def test_two_at_once_build_it_once(build: Build) -> None:
    first, second = build.start(methods=["none"]), build.start(methods=["none"])
    assert [build.finish(process)[0] for process in (first, second)] == [0, 0]
    log = (build.root / "log").read_text()
    assert log.count("measured in") == 1 and "the package is there" in log


def test_asked_to_stop_it_ends_at_once_with_its_children(build: Build) -> None:
    process = build.start()
    build.until(lambda: len(list_group(process.pid)) == 2)  # its child has begun
    process.terminate()
    assert process.wait(30) == codes.EXIT_STOPPED
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert not list(build.storage.glob("packages/p/package.json"))


def test_weights_that_are_no_numbers_are_named(build: Build) -> None:
    edit_weights(build.storage / "model", lambda weights: weights["classifier.bias"].fill_(float("nan")))
    code, result = build.run()
    assert code == codes.EXIT_USER_ERROR and result.failure is not None
    assert result.failure.reason == "ModelInvalid" and "its weight classifier.bias" in result.failure.message


def test_a_causal_model_that_is_not_the_one_of_its_answers_is_named(build: Build) -> None:
    """Its proof fails while generation's thread works."""
    folder = build.storage / "causal"
    write_generator(folder)
    row = {"text": None, "inputIds": [5, 6, 7], "candidates": [1, 2], "logProbs": [-0.1, -3.0]}
    told = {"task": "text-generation", "split": "texts", "dtype": "float32", "tolerance": 0.01, "rows": [row]}
    (folder / "reference.json").write_text(json.dumps(told))
    code, result = build.run(
        uri="pvc://store/causal", dataset=None, texts=TEXTS, methods=["none"], choose="none"
    )
    assert code == codes.EXIT_USER_ERROR and result.failure is not None
    assert result.failure.reason == "ModelUnproven"


def test_a_head_that_is_not_in_the_weights_is_named(build: Build) -> None:
    folder = build.storage / "headless"
    write_encoder(folder)
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(about | {"architectures": ["BertForSequenceClassification"]})
    )
    code, result = build.run(uri="pvc://store/headless")
    assert code == codes.EXIT_USER_ERROR and result.failure is not None
    assert result.failure.reason == "ModelInvalid" and "lacks weights" in result.failure.message


def test_embeddings_without_data_are_built_and_served(build: Build, tmp_path: Path) -> None:
    folder = build.storage / "encoder"
    write_encoder(folder)
    code, result = build.run(
        uri="pvc://store/encoder", task="embeddings", dataset=None, texts=TEXTS, choose="int8"
    )
    log = (build.root / "log").read_text()
    assert code == 0 and result.chosen == "int8" and result.reference is not None, log
    assert [v.metrics["cosine"] > 0.9 for v in result.variants] == [True] * 3
    told = json.loads((build.storage / result.reference).read_text())
    assert len(told["rows"]) == len(set(TEXTS)) and told["dtype"] == "int8"
    config: dict[str, Any] = {"variant": "int8", "runtime": "onnx", "reference": result.reference}
    served = build.storage / str(result.variants[2].folder)
    with running(served, tmp_path / "run", "embeddings", storage=build.storage, **config) as server:
        server.until_ready()
