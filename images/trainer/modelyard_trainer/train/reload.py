"""A model's folder loaded again, by a fresh process that knows nothing of the training."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """Runs the check of `folder` on the CPU. `beat` is called about once a second meanwhile."""
    command = [sys.executable, "-m", "modelyard_trainer.verify", str(folder)]
    process = subprocess.Popen(
        command,
        env=make_environment(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + limit
    while True:
        try:
            output, errors = process.communicate(timeout=_BEAT_SECONDS)
            break
        except subprocess.TimeoutExpired:
            if time.monotonic() > end:
                process.kill()
                process.communicate()
                return Reloaded(unable=f"loading it again took longer than {limit / 60:.0f} minutes")
            beat()
    return read_verdict(process.returncode, output, errors)


def read_verdict(code: int, output: str, errors: str) -> Reloaded:
    """What an ended check says."""
    if code < 0:  # a signal, nearly always the kernel's for want of memory
        return Reloaded(unable=f"the process that loaded it again was killed (signal {-code})")
    try:
        said: dict[str, Any] = json.loads(output.splitlines()[-1])
    except (ValueError, IndexError):
        _log.error("the exported model can't be loaded:\n%s", errors)
        last = next((line for line in reversed(errors.splitlines()) if line.strip()), f"exit code {code}")
        return Reloaded(problem=f"transformers can't load it: {last[-_TAIL:]}")
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
