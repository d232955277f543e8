"""Python's fork server for processes, forked itself from a process that has imported what ranks need.

Importing torch, transformers and DeepSpeed takes seconds: torchrun needs the first, each rank all three, and each again
after every failure. Here they are imported once for a pod. The server is there before this process has threads, so what
it forks inherits no lock that somebody holds.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing import forkserver, resource_tracker, util
from pathlib import Path

from modelyard_agent import resources

_log = logging.getLogger("modelyard.launch")


def start_server() -> bool:
    """Imports all, and starts the server that multiprocessing's `forkserver` contexts of this process use.

    False where ranks must not be forked: a driver was initialised, which children of this process can't use.
    """
    import_all()
    if _is_spoilt():
        _log.warning(
            "the import has initialised the accelerator: ranks are started as programs, which takes longer"
        )
        return False
    gc.collect()
    gc.freeze()  # what nobody collects is not copied in the children
    multiprocessing.set_forkserver_preload([])
    resource_tracker.ensure_running()  # a program of its own, with the real spawn
    spawn = util.spawnv_passfds
    util.spawnv_passfds = _fork  # type: ignore[assignment]
    try:
        forkserver.ensure_running()
    finally:
        util.spawnv_passfds = spawn
    return True


def import_all() -> None:
    """What ranks need of modules that take long, and nothing that depends on which rank it is."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # DeepSpeed looks for devices when it is imported: by the driver's library, which leaves the driver itself alone.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    if not resources.has_accelerator():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from modelyard_trainer.train import session  # noqa: F401

    with contextlib.suppress(ImportError):
        # DeepSpeed imports it, and with it torch's compiler, to see whether a ZeRO optimizer is one of these.
        from deepspeed.runtime.zero.muon import muon_optimizer  # noqa: F401


def _is_spoilt() -> bool:
    import torch

    child = os.fork()
    if child == 0:
        os._exit(int(torch.cuda._is_in_bad_fork()))
    return os.waitpid(child, 0)[1] != 0


def _fork(path: object, arguments: Sequence[str], descriptors: Sequence[int]) -> int:
    """In place of multiprocessing's start of a new interpreter: the words that it would run, in a child."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        _close_other_ends(descriptors)
        # What it forks asks it for processes of their own (verify.forked). The standard library would start another
        # server there, by a lock that this thread holds at the moment of the fork.
        forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]
        exec(arguments[-1], {})  # noqa: S102 - the standard library's own call of its server
    except SystemExit:
        code = 0
    finally:
        os._exit(code)


def _close_other_ends(descriptors: Sequence[int]) -> None:
    """The server ends with the other end of its pipe, which a new interpreter would not have inherited."""
    pipes = {os.fstat(fd).st_ino for fd in descriptors}
    for entry in list(Path("/proc/self/fd").iterdir()):
        fd = int(entry.name)
        with contextlib.suppress(OSError):  # the listing's own is closed by now
            if fd not in descriptors and os.fstat(fd).st_ino in pipes:
                os.close(fd)
