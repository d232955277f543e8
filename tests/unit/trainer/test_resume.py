"""All ranks verify a checkpoint together before they go on from it, and all go on from the same one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from modelyard_agent import checkpoints, hashing
from modelyard_models.failure import Failure
from modelyard_trainer.train.ranks import Ranks
from modelyard_trainer.train.resume import find_beginning, find_newest

from tests.unit.trainer.builders import make_context, make_run
from tests.unit.trainer.threads import run_ranks

WORLD = 3


def save(root: Path, step: int, world: int = WORLD) -> Path:
    ctx = make_context(root, make_run())
    folder = ctx.run_dir / "a0" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "latest", *(f"rng_state_{rank}.pth" for rank in range(world))):
        (folder / name).write_text(f"{name} of step {step}" * 100)
    checkpoints.write_manifest(folder, {"step": step, "worldSize": world})
    return folder


def find(root: Path) -> list[Any]:
    """What each rank finds, or why it fails."""
    ctx = make_context(root, make_run())

    def find_on(ranks: Ranks) -> Any:
        try:
            found = find_newest(ctx, ranks)
        except Failure as failure:
            return f"{failure.reason}: {failure}"
        return found and found.step

    return run_ranks(WORLD, find_on)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_the_ranks_share_the_bytes_of_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "PIECE_BYTES", 100)
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    read: Counter[tuple[Path, int]] = Counter()
    hash_piece = hashing._hash

    def remember(path: Path, offset: int, length: int, algorithm: str) -> str:
        read[path, offset] += 1
        return hash_piece(path, offset, length, algorithm)

    monkeypatch.setattr(hashing, "_hash", remember)
    assert find(tmp_path) == [2] * WORLD
    sizes = {path: path.stat().st_size for path in newest.iterdir() if path.name != "manifest.json"}
    assert read == {(path, offset): 1 for path, size in sizes.items() for offset in range(0, size, 100)}


@pytest.mark.parametrize("name", ["model.safetensors", *(f"rng_state_{rank}.pth" for rank in range(WORLD))])
def test_what_one_rank_finds_torn_is_passed_over_by_all(tmp_path: Path, name: str) -> None:
    save(tmp_path, 1)
    flip(save(tmp_path, 2) / name)
    assert find(tmp_path) == [1] * WORLD
    flip(tmp_path / "storage" / make_context(tmp_path, make_run()).run_path / "a0/checkpoint-1" / name)
    assert find(tmp_path) == [None] * WORLD


def test_a_file_that_one_rank_cant_read_keeps_no_other_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    hash_piece = hashing._hash

    def fail(path: Path, offset: int, length: int, algorithm: str) -> str:
        if path.parts[-2:] == ("checkpoint-2", "rng_state_1.pth"):
            raise OSError(5, "Input/output error")
        return hash_piece(path, offset, length, algorithm)

    monkeypatch.setattr(hashing, "_hash", fail)
    assert find(tmp_path) == [1] * WORLD


def test_a_checkpoint_that_this_image_cant_verify_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    monkeypatch.setattr(hashing, "FASTEST", "sha256")
    save(tmp_path, 2)
    assert find(tmp_path) == [2] * WORLD
    monkeypatch.delitem(hashing.ALGORITHMS, "sha256")
    for found in find(tmp_path):
        assert found.startswith("CheckpointUnusable") and "sha256" in found and "resume: Never" in found


def test_nothing_is_looked_for_where_the_run_says_never(tmp_path: Path) -> None:
    save(tmp_path, 1, world=1)
    never = make_context(tmp_path, make_run(checkpoint__resume="Never"))
    assert find_beginning(never, Ranks(0, 1), 0) is None
    auto = find_beginning(make_context(tmp_path, make_run()), Ranks(0, 1), 0)
    assert auto is not None and auto.step == 1
