"""Verifying a checkpoint of 10 GB after it was saved and before it is resumed from, as releases until 2026-11 did
(SHA-256 of whole files, one thread of node 0) and as it is done now. Nodes are processes, all on this one machine
and its one disk, so that what several nodes gain by their own memory and network is not in it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from modelyard_agent import checkpoints
from modelyard_agent.checkpoints import Verified
from modelyard_agent.files import encode
from modelyard_agent.parts import Share

from tests.bench.sections import Rows

GIGABYTE = 10**9
# As of ZeRO-2 on two ranks: states in float32, weights in half of it.
SIZES = {
    "model.safetensors": 1 * GIGABYTE,
    "global_step1/mp_rank_00_model_states.pt": 1 * GIGABYTE,
    "global_step1/zero_pp_rank_0_mp_rank_00_optim_states.pt": 4 * GIGABYTE,
    "global_step1/zero_pp_rank_1_mp_rank_00_optim_states.pt": 4 * GIGABYTE,
}
TOTAL = sum(SIZES.values())
INFO = {"step": 1}
SAVE = "0123456789abcdef"


def write_files(run: Path) -> Path:
    """The checkpoint's files, as training leaves them: written, not synced."""
    block = os.urandom(50_000_000)
    folder = run / "a0/checkpoint-1"
    checkpoints.remove(folder)
    for name, size in SIZES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("wb") as file:
            for index in range(size // len(block)):
                file.write(index.to_bytes(8, "big") + block[8:])
    return folder


def hash_whole(path: Path, sync: bool) -> str:
    """As it was until 2026-11."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
        if sync:
            os.fsync(stream.fileno())
    return digest.hexdigest()


def save_before(folder: Path) -> None:
    """The manifest of releases until 2026-11."""
    files = [
        {"path": name, "size": size, "sha256": hash_whole(folder / name, sync=True)}
        for name, size in SIZES.items()
    ]
    (folder / "manifest.json").write_bytes(encode({**INFO, "files": files}))


def save_now(folder: Path, node: int, nodes: int) -> None:
    """One node's part, or all."""
    share = Share(SAVE, node, nodes, range(node, node + 1)) if nodes > 1 else None
    if share is not None and node > 0:
        checkpoints.write_part(folder, share)
    else:
        checkpoints.write_manifest(folder, INFO, share)


def resume_before(folder: Path) -> None:
    """Reads back what save_before wrote."""
    for entry in checkpoints.verify(folder)["files"]:
        assert hash_whole(folder / entry["path"], sync=False) == entry["sha256"]


def resume_now(folder: Path, rank: int, ranks: int) -> None:
    """One rank's part, with as many threads as it has in a resume on two processors."""
    checkpoints.verify_bytes(Verified(folder, 0, 1, checkpoints.verify(folder)), 2, rank, ranks)


def spend(function: Callable[..., None], *given: Any) -> float:
    """CPU seconds of a call."""
    before = time.process_time()
    function(*given)
    return time.process_time() - before


def settle(folder: Path, cached: bool) -> None:
    """Has all files on the disk, and in memory or not."""
    for name in SIZES:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
            if cached:
                while file.read(1 << 22):
                    pass
            else:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


Calls = list[tuple[Any, ...]]  # a function and what it is given beside the folder, for each process
SAVES: dict[str, Calls] = {
    "before": [(save_before,)],
    "now, one node": [(save_now, 0, 1)],
    "now, two nodes": [(save_now, 0, 2), (save_now, 1, 2)],
}
RESUMES: dict[str, tuple[tuple[Any, ...], Calls]] = {
    "before": (SAVES["before"][0], [(resume_before,)]),
    "now, one rank": (SAVES["now, one node"][0], [(resume_now, 0, 1)]),
    "now, two ranks": (SAVES["now, one node"][0], [(resume_now, 0, 2), (resume_now, 1, 2)]),
}


def measure(rows: Rows) -> None:
    """After a save, with what syncing takes and without; and before a resume, from memory and from the disk."""
    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(2) as pool:
        if shutil.disk_usage(scratch).free < 2 * TOTAL:
            raise RuntimeError(f"{scratch} has less than {2 * TOTAL / GIGABYTE:.0f} GB free")
        list(pool.map(time.sleep, [0.2, 0.2]))  # both processes run, and have imported

        def take(when: str, how: str, calls: Calls, folder: Path) -> None:
            with rows.measure(when=when, how=how) as row:
                began = time.perf_counter()
                spent = [pool.submit(spend, function, folder, *given) for function, *given in calls]
                cpu = sum(future.result() for future in spent)
                seconds = time.perf_counter() - began
                row |= {
                    "seconds": round(seconds, 1), "GB/s": round(TOTAL / GIGABYTE / seconds, 2), "cpu_s": round(cpu, 1)
                }  # fmt: skip

        for how, calls in SAVES.items():
            folder = write_files(Path(scratch))
            take("just saved", how, calls, folder)
            settle(folder, cached=True)
            take("saved and on the disk", how, calls, folder)
        for how, (save, calls) in RESUMES.items():
            spend(save[0], folder, *save[1:])
            for when, cached in (("resume, from memory", True), ("resume, from the disk", False)):
                settle(folder, cached)
                take(when, how, calls, folder)
