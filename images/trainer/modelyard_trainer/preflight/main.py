"""The preflight of a run, in a process of its own: torch and DeepSpeed leave nothing behind in the prepare stage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modelyard.contract.run import RunConfig
from modelyard_models.failure import Failure, lacks_memory

from modelyard_trainer.preflight.base import Base
from modelyard_trainer.preflight.weights import Findings
from modelyard_trainer.prepare.tokenizer import vocabulary_of

_CRASHED = -9
_TAIL = 300  # characters of a crash's output


class Preflight:
    """One preflight that is under way; `finish` waits for it."""

    def __init__(self, run: RunConfig, folder: Path) -> None:
        """Starts it for the model in `folder`, which may hold a configuration and no weights."""
        self._scratch = tempfile.TemporaryDirectory(prefix="preflight-")
        self._found: Base | None = None
        told, self._answer = Path(self._scratch.name) / "run.json", Path(self._scratch.name) / "answer.json"
        told.write_text(run.model_dump_json(by_alias=True))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "modelyard_trainer.preflight", str(told), str(folder), str(self._answer)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> Base:
        """What it found; the same when asked again. Raises Failure (ModelInvalid, InvalidArgument …)."""
        if self._found is None:
            _, errors = self._process.communicate()
            if errors:
                sys.stderr.write(errors)
            answer = json.loads(self._answer.read_text()) if self._answer.exists() else None
            if answer is None:
                raise _explain_crash(self._process.returncode, errors)
            if "failure" in answer:
                raise Failure(**answer["failure"])
            self._found = _read_base(answer["base"])
        return self._found

    def cancel(self) -> None:
        """Ends it; what it found no longer matters."""
        if self._process.poll() is None:
            self._process.kill()
        if self._process.stderr is not None:
            self._process.stderr.close()
        self._process.wait()
        self._scratch.cleanup()


@contextmanager
def starting_preflight(run: RunConfig, folder: Path | None) -> Iterator[Preflight]:
    """A preflight beside the block, of the model in `folder`, or of the one that `model.config` describes."""
    with described_folder(run, folder) as described:
        preflight = Preflight(run, described)
        try:
            yield preflight
        finally:
            preflight.cancel()


@contextmanager
def described_folder(run: RunConfig, folder: Path | None) -> Iterator[Path]:
    """`folder`, or where there is none yet, one with the configuration that `model.config` will be."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="model-") as scratch:
        assert run.model is not None  # noqa: S101 - the prepare stage has looked
        config = run.model.config or {}
        text = json.dumps({**config, "vocab_size": vocabulary_of(config)})
        (Path(scratch) / "config.json").write_text(text)
        yield Path(scratch)


def main() -> int:
    """`RUN_CONFIG MODEL_FOLDER ANSWER_FILE`: examines the model and the run's settings; writes the answer."""
    told, folder, target = (Path(argument) for argument in sys.argv[1:4])
    try:
        base = examine(RunConfig.model_validate_json(told.read_bytes()), folder)
        answer: dict[str, Any] = {"base": asdict(base)}
    except Exception as error:
        failure = error if isinstance(error, Failure) else _too_small() if lacks_memory(error) else None
        if failure is None:
            raise
        kept = ("reason", "message", "temporary")
        answer = {"failure": {name: getattr(failure, name) for name in kept}}
    target.write_text(json.dumps(answer))
    return 0


def examine(run: RunConfig, folder: Path) -> Base:
    """The whole preflight in this process. Raises Failure."""
    _stand_alone()
    from modelyard_trainer.preflight.base import check_length, examine_model
    from modelyard_trainer.preflight.settings import check_settings
    from modelyard_trainer.tasks import find_task
    from modelyard_trainer.train.devices import Devices, set_up_process

    set_up_process(rank=1)  # as quiet as any rank but the first
    assert run.model is not None  # noqa: S101 - the prepare stage has looked
    task = find_task(run.task)
    base, empty = examine_model(run.model, folder, task)
    check_length(base, run.training.max_length)
    with tempfile.TemporaryDirectory() as output:
        devices = Devices(gpu=False, bfloat16=run.gpus_per_node > 0)
        check_settings(run, task, empty, Path(output), devices)
    return base


def _stand_alone() -> None:
    """One process that is its own whole world, whatever torchrun's variables say around it."""
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _read_base(told: dict[str, Any]) -> Base:
    findings = Findings(**{key: tuple(names) for key, names in told.pop("findings").items()})
    labels = told.pop("labels")
    return Base(findings, tuple(labels) if labels is not None else None, **told)


def _too_small() -> Failure:
    return Failure(
        "HostOutOfMemory",
        "the pod's memory is too small to look at the model; raise the profile's prepareResources.limits.memory",
    )


def _explain_crash(code: int, errors: str) -> Failure:
    if code == _CRASHED:
        return _too_small()
    last = errors.strip().splitlines()[-1:] or [f"exit code {code}"]
    return Failure(
        "PreflightFailed",
        f"the model and the settings could not be examined: {last[0][-_TAIL:]}; the pod's log has the whole error",
    )
