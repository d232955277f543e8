"""A model's folder loaded again, by a fresh process that knows nothing of the training."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard_trainer.verify import forked

_log = logging.getLogger("modelyard.train")
MOST_BYTES = 40 << 30  # of weights: reading and computing them on CPUs would take longer than it is worth
_SHARE = 1.1  # of the weights' bytes: the model, and what it computes with
_BESIDE = 1 << 30  # bytes: Python, torch and transformers
# The other ranks wait meanwhile, and gloo gives up after half an hour.
LIMIT_SECONDS = 1200.0
_BEAT_SECONDS = 1.0
_TAIL = 400  # characters of an error
# What torchrun and the launchers tell the processes of a training.
_OF_TRAINING = ("TORCHELASTIC_", "ACCELERATE_", "MASTER_", "GROUP_", "ROLE_")
_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True, slots=True)
class Reloaded:
    """How it went, in one of four ways: `difference` (nats) is the largest, of a model that is the trained one.

    `problem`: in what the folder is another; `storage`: why it can't be read just now; `unable`: why this pod
    can't tell.
    """

    difference: float | None = None
    problem: str | None = None
    storage: str | None = None
    unable: str | None = None


def why_too_large(weights: int, available: int | None) -> str | None:
    """Why a model of so many bytes is not loaded a second time beside the training; None if it is."""
    if weights > MOST_BYTES:
        return f"its weights take {_gib(weights)}, more than the {_gib(MOST_BYTES)} up to which it is loaded again"
    need = int(weights * _SHARE) + _BESIDE
    if available is not None and need > available:
        return f"loading it again takes {_gib(need)} of memory, and {_gib(available)} are left in the pod"
    return None


def reload_folder(folder: Path, beat: Callable[[], None], limit: float = LIMIT_SECONDS) -> Reloaded:
    """Has the check of `folder` run on the CPU. `beat` is called about once a second meanwhile.

    Where this process was forked by the launcher's server, so is the one that checks, and needs no seconds for imports.
    """
    check = _Forked(folder) if multiprocessing.parent_process() is not None else _Program(folder)
    end = time.monotonic() + limit
    while not check.ended(_BEAT_SECONDS):
        if time.monotonic() > end:
            check.kill()
            return Reloaded(unable=f"loading it again took longer than {limit / 60:.0f} minutes")
        beat()
    return read_verdict(*check.result())


class _Program:
    """The check as a program of its own."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "modelyard_trainer.verify", str(folder)],
            env=make_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._said = ("", "")

    def ended(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        try:
            self._said = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()

    def result(self) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        return self._process.returncode, *self._said


class _Forked:
    """The check in a child of the server that has forked this process."""

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        self._answer, other = context.Pipe(duplex=False)
        self._process = context.Process(
            target=forked.run, args=(folder, make_environment(os.environ), other), daemon=True
        )
        self._process.start()
        other.close()  # so that the answer ends where the child does

    def ended(self, seconds: float) -> bool:
        """Whether it answers or ends within so many seconds."""
        return self._answer.poll(seconds)

    def kill(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.join()

    def result(self) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        try:
            said = self._answer.recv_bytes().decode()
        except EOFError:
            said = ""
        self._process.join()
        return self._process.exitcode or 0, said, ""


def read_verdict(code: int, output: str, errors: str) -> Reloaded:
    """What an ended check says."""
    if code < 0:  # a signal, nearly always the kernel's for want of memory
        return Reloaded(unable=f"the process that loaded it again was killed (signal {-code})")
    try:
        said: dict[str, Any] = json.loads(output.splitlines()[-1])
    except (ValueError, IndexError):
        # The check says itself what it finds, whatever that is: without a word from it nothing is known of the folder.
        _log.error("the check of the exported model failed:\n%s", errors)
        last = next((line for line in reversed(errors.splitlines()) if line.strip()), f"exit code {code}")
        return Reloaded(unable=f"the check of the loaded model failed itself: {last[-_TAIL:]}")
    if trace := said.get("trace"):
        _log.error("the exported model can't be loaded:\n%s", trace)
    return Reloaded(said.get("maxDifference"), said.get("problem"), said.get("storage"), said.get("unable"))


def make_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that is none of the training's, has no GPU and asks no hub."""
    kept = {k: v for k, v in env.items() if not k.startswith(_OF_TRAINING) and k not in _RANKS}
    # The processes of this pod wait for this one, so that their threads are free.
    threads = int(env.get("OMP_NUM_THREADS") or 1) * int(env.get("LOCAL_WORLD_SIZE") or 1)
    return kept | {
        "OMP_NUM_THREADS": str(threads),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
