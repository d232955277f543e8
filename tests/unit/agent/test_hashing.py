"""Every byte counts, whatever reads it: in pieces and threads, with XXH3 or SHA-256, now or by an earlier release."""

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import xxhash
from modelyard_agent import checkpoints, hashing
from modelyard_agent.checkpoints import Verified
from modelyard_agent.files import encode
from modelyard_agent.hashing import CheckpointError, UnknownHashError

from tests.unit.agent.conftest import MakePod
from tests.unit.agent.pods import PYTHON_PATH, wait_until

CONTENT = bytes(range(250)) * 10


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint whose largest file has three pieces, the last a short one."""
    monkeypatch.setattr(hashing, "PIECE_BYTES", 1000)
    folder = tmp_path / "checkpoint-1"
    (folder / "inner").mkdir(parents=True)
    (folder / "large").write_bytes(CONTENT)
    (folder / "inner/small").write_bytes(b"small")
    (folder / "empty").touch()
    return folder


def read(folder: Path) -> Verified:
    return Verified(folder, 0, 1, checkpoints.verify(folder))


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("algorithm", ["xxh3_128", "sha256"])
def test_a_file_is_hashed_in_pieces(
    folder: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str, threads: int
) -> None:
    make: Any = xxhash.xxh3_128 if algorithm == "xxh3_128" else hashlib.sha256
    monkeypatch.setattr(hashing, "FASTEST", algorithm)
    found = hashing.describe_files(folder, ["empty", "inner/small", "large"], threads)
    assert [(file["size"], file["hash"], file["pieceBytes"]) for file in found] == [
        (0, algorithm, 1000), (5, algorithm, 1000), (2500, algorithm, 1000)
    ]  # fmt: skip
    assert [file["pieces"] for file in found] == [
        [],
        [make(b"small").hexdigest()],
        [make(CONTENT[start : start + 1000]).hexdigest() for start in (0, 1000, 2000)],
    ]
    hashing.check_pieces(folder, hashing.list_pieces({"files": found}), threads)


def test_the_package_of_the_trainers_image_is_used_and_not_needed() -> None:
    assert hashing.FASTEST == "xxh3_128"
    find = f"import sys; sys.path[:0] = {PYTHON_PATH.split(os.pathsep)}; from modelyard_agent import hashing as h"
    command = [sys.executable, "-I", "-S", "-c", f"{find}; print(h.FASTEST, *h.ALGORITHMS)"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "sha256 sha256\n"


@pytest.mark.parametrize("place", [0, 999, 1000, 2499])
def test_a_flipped_bit_is_found_wherever_it_is(folder: Path, place: int) -> None:
    checkpoints.write_manifest(folder, {"step": 1})
    content = bytearray(CONTENT)
    content[place] ^= 1
    (folder / "large").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"large does not hash"):
        checkpoints.verify_bytes(read(folder), threads=2)


def test_the_shares_together_find_it_and_only_one_of_them(folder: Path) -> None:
    checkpoints.write_manifest(folder, {"step": 1})
    (folder / "large").write_bytes(CONTENT[:-1] + b"?")
    found = 0
    for share in range(3):
        try:
            checkpoints.verify_bytes(read(folder), 1, share, 3)
        except CheckpointError:
            found += 1
    assert found == 1


def test_a_manifest_of_an_earlier_release_is_verified(folder: Path) -> None:
    files = [
        {"path": name, "size": (folder / name).stat().st_size,
         "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}
        for name in ("empty", "inner/small", "large")
    ]  # fmt: skip
    (folder / "manifest.json").write_bytes(encode({"step": 1, "files": files}))
    for share in range(2):
        checkpoints.verify_bytes(read(folder), 2, share, 2)
    (folder / "inner/small").write_bytes(b"smell")
    with pytest.raises(CheckpointError, match="inner/small"):
        checkpoints.verify_bytes(read(folder), threads=2)


def test_what_this_image_cant_compute_is_no_torn_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.write_manifest(folder, {"step": 1})
    monkeypatch.delitem(hashing.ALGORITHMS, "xxh3_128")
    with pytest.raises(UnknownHashError, match=r"xxh3_128.*it has sha256"):
        checkpoints.verify_bytes(read(folder), threads=1)


def test_a_file_that_cant_be_read_is_torn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.write_manifest(folder, {"step": 1})
    found = read(folder)
    (folder / "large").unlink()
    with pytest.raises(CheckpointError, match="large"):
        checkpoints.verify_bytes(found, threads=2)


@pytest.mark.parametrize("change", ["grows", "vanishes", "another comes"])
def test_what_changes_meanwhile_is_not_verified(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    hash_piece = hashing._hash

    def disturb(path: Path, offset: int, length: int, algorithm: str) -> str:
        if offset == 2000 and change == "grows":
            path.write_bytes(CONTENT + b"more")
        if offset == 2000 and change == "vanishes":
            path.unlink()
        if offset == 2000 and change == "another comes":
            path.with_name("another").touch()
        return hash_piece(path, offset, length, algorithm)

    monkeypatch.setattr(hashing, "_hash", disturb)
    with pytest.raises(CheckpointError, match="while it was being verified"):
        checkpoints.write_manifest(folder, {"step": 1})
    assert not (folder / "manifest.json").exists()


def test_every_file_is_synced_before_there_is_a_manifest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = set()

    def sync(descriptor: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        assert not (folder / "manifest.json").exists() or synced >= wanted

    wanted = {str(folder / name) for name in ("empty", "inner/small", "large")} | {str(folder / "inner")}
    monkeypatch.setattr(os, "fsync", sync)
    checkpoints.write_manifest(folder, {"step": 1})
    assert synced >= wanted


def test_an_error_ends_the_work_of_all_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Semaphore(0)

    def fail(path: Path, offset: int, length: int, algorithm: str) -> str:
        begun.release()
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(hashing, "_hash", fail)
    monkeypatch.setattr(hashing, "PIECE_BYTES", 1)
    with pytest.raises(OSError, match="Input/output error"):
        hashing.describe_files(folder, ["large"], threads=2)
    assert sum(iter(lambda: begun.acquire(blocking=False), False)) <= 3


@pytest.mark.parametrize(("processors", "threads"), [(1, 1), (2, 1), (8, 2), (64, 4)])
def test_hashing_leaves_training_its_processors(
    monkeypatch: pytest.MonkeyPatch, processors: int, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)))
    monkeypatch.setattr("modelyard_agent.resources.read_cpu_limit", lambda _: None)
    assert hashing.count_threads() == threads


def test_an_agent_whose_hashing_hangs_ends_all_the_same(make_pod: MakePod) -> None:
    pod = make_pod(grace_seconds=3.0).start("""
folder = storage / "runs/team/job-12345678/a0/checkpoint-1"
folder.mkdir(parents=True)
(folder / "endless").touch()
os.truncate(folder / "endless", 1 << 42)  # takes no room, and minutes to read
client.request_verification(step=1, path="runs/team/job-12345678/a0/checkpoint-1")
signal.signal(signal.SIGTERM, signal.SIG_DFL)
time.sleep(600)
""")
    wait_until(lambda: pod.get("/v1/checkpoint/1")[0] == 202, "the request")
    pod.stop()
    assert pod.wait() != -9
    assert "could not be verified in time" in pod.log()
