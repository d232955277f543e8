"""The check in a process that the launcher's server has forked: it has the modules, and none of the training."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from modelyard_trainer.verify.verdict import judge


def run(folder: Path, environment: Mapping[str, str], answer: Connection) -> None:
    """Sends one line of JSON. `environment` takes the place of what the server was started with."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text("verify")
    # As those of a program of its own, its words are nobody's.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.environ.clear()
    os.environ.update(environment)
    import torch
    from transformers.utils import logging

    # Both have read their variables when they were imported.
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    logging.set_verbosity_error()
    answer.send_bytes(json.dumps(judge(folder)).encode())
