"""The processes that measure: what they are told, what they ask, and that they end."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modelyard.contract import codes
from modelyard.contract.server import ServerConfig
from modelyard_build import bench as bench_module
from modelyard_build.bench import Bench, Subject
from modelyard_build.child import run_child
from modelyard_build.measuring import __main__ as measuring
from modelyard_build.measuring.__main__ import measure
from modelyard_build.measuring.plan import Figures, Plan
from modelyard_build.rows import Rows
from modelyard_build.tasks import TASKS
from modelyard_build.tasks.predictive import PredictiveTask
from modelyard_models.failure import Failure

from tests.unit.build.builders import make_settings
from tests.unit.server.models import (
    make_service,
    serving_any,
    write_classifier,
    write_encoder,
    write_generator,
)
from tests.unit.server.models import make_settings as make_server_settings
from tests.unit.server.test_proof import edit_weights

WRONG = {
    "task": "text-generation", "split": "texts", "dtype": "float32", "tolerance": 0.01,
    "rows": [{"text": None, "inputIds": [5, 6, 7], "candidates": [1, 2], "logProbs": [-0.1, -3.0]}],
}  # fmt: skip


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama") / "model"
    write_generator(folder)
    return folder


def test_a_model_that_fails_its_proof_leaves_no_thread_that_works(tmp_path: Path, llama: Path) -> None:
    (tmp_path / "wrong.json").write_text(json.dumps(WRONG))
    Rows("texts", texts=["the quick brown fox"]).write(tmp_path / "rows.json")
    settings = make_server_settings(llama, "text-generation", variant="none")
    told = {"begun": time.monotonic(), "rows": tmp_path / "rows.json", "answers": tmp_path / "answers.npz"}
    plan = Plan.model_validate(told | {"reference": None, "count": None, "seconds": 1.0})
    before = set(threading.enumerate())
    with pytest.raises(Failure) as caught:
        asyncio.run(measure(plan, dataclasses.replace(settings, reference=tmp_path / "wrong.json")))
    assert caught.value.reason == "ModelUnproven"
    # The executor's thread waits for work, and is ended with the process.
    assert not [t for t in set(threading.enumerate()) - before if not t.name.startswith("model")]


def test_memory_that_runs_out_while_a_causal_model_is_asked_is_named(
    tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = measuring._ask

    def fail(*args: Any, **options: Any) -> Any:
        raise MemoryError

    async def ask_in_vain(plan: Plan, service: Any, model: Any, load_seconds: float) -> Figures:
        model._model.forward = fail
        return await ask(plan, service, model, load_seconds)

    monkeypatch.setattr(measuring, "_ask", ask_in_vain)
    Rows("texts", texts=["the quick brown fox"]).write(tmp_path / "rows.json")
    told = {"begun": time.monotonic(), "rows": tmp_path / "rows.json", "answers": tmp_path / "answers.npz"}
    plan = Plan.model_validate(told | {"reference": None, "count": None, "seconds": 1.0})
    with pytest.raises(Failure) as caught:
        asyncio.run(measure(plan, make_server_settings(llama, "text-generation", variant="none")))
    assert caught.value.reason == "HostOutOfMemory"


END = """
import threading, time
from modelyard_build.child import end
threading.Thread(target=time.sleep, args=(3600,)).start()
def main():
    {}
end(main)
"""


@pytest.mark.parametrize(("does", "code"), [("return 3", 3), ("raise ValueError('the library broke')", 1)])
def test_a_process_ends_whatever_its_threads_do(does: str, code: int) -> None:
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-c", END.format(does)],
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == code
    assert (b"the library broke" in ended.stderr) == (code == 1)


OUT_OF_MEMORY = """
import sys
from modelyard_build.child import end
from modelyard_models.failure import boundary
def main():
    with boundary("ModelUnproven", "the model does not answer", "serve another"):
        raise {}
end(main)
"""


@pytest.mark.parametrize(
    "error", ["MemoryError()", "RuntimeError('[x] DefaultCPUAllocator: can\\'t allocate memory')"]
)
def test_a_process_that_finds_no_memory_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    (tmp_path / "lacking.py").write_text(OUT_OF_MEMORY.format(error))
    path = os.pathsep.join([str(tmp_path), *sys.path])
    with pytest.raises(Failure) as caught:
        run_child("lacking", tmp_path / "plan", tmp_path / "target", {"PYTHONPATH": path})
    assert (caught.value.reason, caught.value.temporary) == ("HostOutOfMemory", False)
    assert "raise server.resources.limits.memory" in caught.value.message


def test_a_process_that_finds_no_memory_on_its_device_may_find_some_later(tmp_path: Path) -> None:
    error = "__import__('torch').OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 MiB')"
    (tmp_path / "lacking.py").write_text(OUT_OF_MEMORY.format(error))
    path = os.pathsep.join([str(tmp_path), *sys.path])
    with pytest.raises(Failure, match="CUDA out of memory") as caught:
        run_child("lacking", tmp_path / "plan", tmp_path / "target", {"PYTHONPATH": path})
    assert (caught.value.reason, caught.value.temporary) == ("StartFailed", True)


def test_a_variant_is_measured_with_what_it_will_be_served_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[ServerConfig] = []

    def run_child(module: str, plan: Path, target: Path, environment: Mapping[str, str]) -> None:
        told.append(ServerConfig.model_validate_json(Path(environment[codes.ENV_SERVER_CONFIG]).read_bytes()))
        figures = Figures(
            rows=1, max_length=7, load_seconds=1, latency_milliseconds=1, requests_per_second=1, concurrency=1
        )
        target.write_text(figures.model_dump_json())
        np.savez(Plan.model_validate_json(plan.read_bytes()).answers, logits=np.zeros((1, 3)))

    monkeypatch.setattr(bench_module, "run_child", run_child)
    rows, subject = Rows("texts", texts=["a"]), Subject("bf16", "torch", "packages/p/bf16", None)
    batching = {"maxLength": 7, "maxBatchTokens": 99, "maxBatchDelayMilliseconds": 0.5}
    for config in (batching, {}):
        Bench(make_settings(tmp_path, **config), "text-classification", rows, tmp_path).measure(subject, 1)
    served = {"name": "build", "task": "text-classification", "folder": "packages/p/bf16", "variant": "bf16"}
    assert told == [ServerConfig.model_validate(served | batching), ServerConfig.model_validate(served)]


TEXTS = [
    "日本語のとても長い文章です。今日はとても暑いですね。" * 3, "the quick brown fox " * 6, "",
    "ünïcode 深い 😀 " * 6,
]  # fmt: skip


def ask_all(folder: Path, limit: int, rows: Rows, task: str = "text-generation") -> list[Any]:
    async def whole() -> list[Any]:
        service = make_service(folder, task, max_length=limit)
        async with serving_any(service) as model:
            asker = await TASKS[task].make_asker(service, model, rows)
            return [await asker.ask(number) for number in range(asker.size)]

    return asyncio.run(whole())


@pytest.mark.parametrize("limit", [2, 16, 17, 128])
def test_a_prompt_leaves_room_for_an_answer_however_short_the_model_is(llama: Path, limit: int) -> None:
    answers = ask_all(llama, limit, Rows("texts", texts=TEXTS))
    assert len(answers) >= 3
    for answer in answers:
        usage = answer["usage"]
        assert 1 <= usage["completion_tokens"] <= 16 and usage["total_tokens"] <= limit


def test_rows_without_a_token_are_not_asked(llama: Path) -> None:
    assert len(ask_all(llama, 64, Rows("validation", ids=[[], [5, 6, 7], [2]]))) == 2
    with pytest.raises(Failure) as caught:
        ask_all(llama, 64, Rows("validation", ids=[[]]))
    assert caught.value.reason == "InvalidBuildConfig"


def test_texts_without_a_token_are_not_asked(tmp_path: Path) -> None:
    write_classifier(tmp_path / "model", frames=False)  # no special tokens around a text
    task = "text-classification"
    assert len(ask_all(tmp_path / "model", 64, Rows("texts", texts=["", "a dog", "good"]), task)) == 2
    with pytest.raises(Failure) as caught:
        ask_all(tmp_path / "model", 64, Rows("texts", texts=[""]), task)
    assert caught.value.reason == "InvalidBuildConfig"


@pytest.mark.parametrize(
    "config",
    [
        {"num_labels": 1},
        {"num_labels": 1, "problem_type": "regression"},
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        {"num_labels": 3},
    ],
)
def test_a_head_that_answers_otherwise_is_told_by_its_reference_whatever_its_classes(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    """The logarithms of probabilities say nothing of a lone class, and little of classes that stand by themselves."""
    folder, task = tmp_path / "model", TASKS["text-classification"]
    assert isinstance(task, PredictiveTask)
    write_encoder(folder, "AutoModelForSequenceClassification", **config)

    async def prove(refers: bool = False) -> None:
        service = make_service(folder, task.name)
        async with serving_any(service) as model:
            if refers:
                asker = await task.make_asker(service, model, Rows("texts", texts=TEXTS))
                reference = await task.refer(asker, "texts")
                (folder / "reference.json").write_text(reference.model_dump_json(by_alias=True))

    asyncio.run(prove(refers=True))
    asyncio.run(prove())

    def move(weights: dict[str, Any]) -> None:
        if config == {"num_labels": 3}:
            weights["classifier.weight"] *= -1
        else:  # all classes alike, of which a share of probability would tell nothing
            weights["classifier.bias"] -= 1

    edit_weights(folder, move)
    with pytest.raises(Failure, match=r"differ from reference\.json by") as caught:
        asyncio.run(prove())
    assert caught.value.reason == "ModelUnproven"


def test_a_reference_without_logits_is_compared_as_before(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_encoder(folder, "AutoModelForSequenceClassification", num_labels=1)
    row = {"text": None, "inputIds": [5, 6, 7], "candidates": [0], "logProbs": [0.0]}
    (folder / "reference.json").write_text(json.dumps(WRONG | {"task": "text-classification", "rows": [row]}))
    assert len(ask_all(folder, 64, Rows("texts", texts=["a dog"]), "text-classification")) == 1
