"""What libraries raise becomes a Failure that names the place and what to do."""

from __future__ import annotations

import errno
import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from modelyard_models.download import download
from modelyard_models.failure import Failure, boundary
from modelyard_trainer.preflight import main as preflight
from modelyard_trainer.prepare.main import prepare
from modelyard_trainer.prepare.tokenizer import Tokenizer, train_tokenizer
from modelyard_trainer.train.explanation import explain

from tests.unit.trainer.builders import make_context, make_rows, make_run, write_rows
from tests.unit.trainer.web import WebServer


class PanicError(BaseException):
    """As the panics of Rust's libraries: no Exception."""


def test_a_text_that_ftfy_cannot_repair_is_named(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(model_folder, tmp_path / "sources/pvc/models/base")
    write_rows(tmp_path / "sources/pvc/data/rows.csv", [*make_rows(4), ("größe", "a")])

    def fail(text: str) -> str:
        raise IndexError("string index out of range")

    monkeypatch.setattr("ftfy.fix_encoding", fail)
    sources = [{"name": "rows", "uri": "pvc://data/rows.csv"}]
    run = make_run(data={"sources": sources, "prepare": [{"normalize": {}}]})
    with pytest.raises(
        Failure, match=r"DataInvalid: source rows, row 5: step 0.normalize can't repair the text"
    ):
        prepare(make_context(tmp_path, run))


@pytest.mark.parametrize("error", [PanicError("index out of range"), Exception("Missing [UNK] token")])
def test_a_tokenizer_that_fails_is_the_models_fault(error: BaseException) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    for use in (partial(Tokenizer.count, texts=["a"]), partial(Tokenizer.encode, texts=["a"], max_length=8)):
        with pytest.raises(Failure) as caught:
            use(Tokenizer(fail))
        assert caught.value.reason == "ModelInvalid" and str(error) in caught.value.message


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_what_is_not_the_tokenizers_passes(error: BaseException) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    with pytest.raises(type(error)):
        Tokenizer(fail).count(["a"])


def test_a_tokenizer_that_cannot_be_trained_says_so(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="ModelInvalid: no tokenizer could be trained on the training split"):
        train_tokenizer([5], {"vocab_size": 300}, tmp_path, frames=False)  # type: ignore[list-item]


def test_a_download_that_our_disk_refuses_is_our_storages(
    tmp_path: Path, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files["/rows.csv"] = b"text,label\n"
    opened = Path.open

    def refuse(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if path.name.endswith(".part"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return opened(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(Failure, match="StorageFull"):
        download(f"{web.url}/rows.csv", tmp_path / "rows", "Source", "source r", sleep=lambda _: None)


def test_torchs_want_of_memory_is_no_fault_of_what_was_read() -> None:
    with pytest.raises(RuntimeError) as raised, boundary("ModelInvalid", "the model", "write another"):
        torch.empty(1 << 56, dtype=torch.uint8)  # more than any machine has: torch's own words
    failure = explain(raised.value)
    assert failure is not None and failure.reason == "HostOutOfMemory"
    with pytest.raises(Failure, match="ModelInvalid"), boundary("ModelInvalid", "the model", "write another"):
        torch.empty(-1)
    with (
        pytest.raises(torch.OutOfMemoryError) as raised,
        boundary("ModelInvalid", "the model", "write another"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")
    failure = explain(raised.value)
    assert failure is not None and failure.reason == "CUDAOutOfMemory"


def test_a_preflight_that_finds_no_memory_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told, answer = tmp_path / "run.json", tmp_path / "answer.json"
    told.write_text(make_run().model_dump_json(by_alias=True))
    sizes = [1 << 56]
    monkeypatch.setattr(preflight, "examine", lambda *_: torch.empty(sizes, dtype=torch.uint8))
    monkeypatch.setattr(sys, "argv", ["preflight", str(told), str(tmp_path), str(answer)])
    assert preflight.main() == 0
    assert json.loads(answer.read_text())["failure"]["reason"] == "HostOutOfMemory"
    sizes[0] = -1
    with pytest.raises(RuntimeError, match="negative dimension"):
        preflight.main()  # what is nobody's word ends the process, and its last line is told
