"""A checkpoint exists once its manifest does, and the last one that exists is never deleted."""

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from modelyard_agent import checkpoints
from modelyard_agent.checkpoints import Policy
from modelyard_agent.hashing import CheckpointError

from tests.unit.agent.conftest import MakePod
from tests.unit.agent.pods import wait_until


def make(run: Path, attempt: int, step: int, value: float | None = None, torn: bool = False) -> Path:
    folder = run / f"a{attempt}/checkpoint-{step}"
    (folder / "global_step").mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"weights" * step)
    (folder / "global_step/optimizer.bin").write_bytes(b"moments" * step)
    if not torn:
        info = {"step": step, "attempt": attempt, "metric": "eval_loss", "value": value}
        checkpoints.write_manifest(folder, {key: given for key, given in info.items() if given is not None})
    return folder


def names(run: Path) -> list[str]:
    return sorted(path.relative_to(run).as_posix() for path in run.glob("a*/checkpoint-*"))


def test_a_manifest_names_every_file_with_size_and_hash(tmp_path: Path) -> None:
    manifest = checkpoints.verify(make(tmp_path, 0, 5))
    assert [(file["path"], file["size"]) for file in manifest["files"]] == [
        ("global_step/optimizer.bin", 35),
        ("model.bin", 35),
    ]


def test_a_missing_or_short_file_tears_a_checkpoint(tmp_path: Path) -> None:
    short, missing = make(tmp_path, 0, 5), make(tmp_path, 0, 6)
    (short / "model.bin").write_bytes(b"weights")
    (missing / "model.bin").unlink()
    for folder in (short, missing):
        with pytest.raises(CheckpointError, match=r"model\.bin"):
            checkpoints.verify(folder)
    assert checkpoints.list_verified(tmp_path) == []


def test_a_changed_byte_is_found_by_its_hash_only(tmp_path: Path) -> None:
    folder = make(tmp_path, 0, 5)
    (folder / "model.bin").write_bytes(b"WEIGHTS" * 5)
    [found] = checkpoints.list_verified(tmp_path)
    with pytest.raises(CheckpointError, match="hash"):
        checkpoints.verify_bytes(found, threads=2)


@pytest.mark.parametrize("name", [b"w\xff.bin", b'a\nb"c\\.bin', "Gewicht-ß\u2028.bin".encode()])
def test_a_file_is_found_again_whatever_it_is_called(tmp_path: Path, name: bytes) -> None:
    folder = make(tmp_path, 0, 5, torn=True)
    (folder / os.fsdecode(name)).write_bytes(b"weights")
    checkpoints.write_manifest(folder, {"step": 5})
    [found] = checkpoints.list_verified(tmp_path)
    checkpoints.verify_bytes(found, threads=2)
    assert os.fsdecode(name) in [file["path"] for file in found.manifest["files"]]


@pytest.mark.parametrize("name", [".nfs00000000018e179a00000009", ".fuse_hidden0000002500000001"])
def test_what_is_left_of_a_deleted_file_that_is_open_is_none_of_a_checkpoint(
    tmp_path: Path, name: str
) -> None:
    folder = make(tmp_path, 0, 5, torn=True)
    (folder / "global_step" / name).write_bytes(b"moments")
    checkpoints.write_manifest(folder, {"step": 5})
    (folder / "global_step" / name).unlink()  # whoever had it open has closed it
    assert [found.step for found in checkpoints.list_verified(tmp_path)] == [5]


def test_a_step_is_saved_again_where_somebody_still_has_its_files_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path, 0, 5)
    unlink = os.unlink

    def as_nfs(path: Any, **where: Any) -> None:
        name = Path(path).name
        if name.startswith(".nfs"):
            raise OSError(errno.EBUSY, "Device or resource busy", name)
        if name == "model.bin":
            os.rename(
                path, ".nfs00000000018e179a00000009", src_dir_fd=where["dir_fd"], dst_dir_fd=where["dir_fd"]
            )
        else:
            unlink(path, **where)

    monkeypatch.setattr(os, "unlink", as_nfs)
    checkpoints.remove(folder)
    assert checkpoints.list_verified(tmp_path) == []
    (folder / "model.bin").write_bytes(b"weights")
    checkpoints.write_manifest(folder, {"step": 5})
    [found] = checkpoints.list_verified(tmp_path)
    assert [file["path"] for file in found.manifest["files"]] == ["model.bin"]


def test_what_may_not_be_deleted_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path, 0, 5)

    def refuse(path: Any, **where: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted", path)

    (folder / "manifest.json").unlink()
    monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.setattr(Path, "unlink", lambda *_: None)
    with pytest.raises(PermissionError):
        checkpoints.remove(folder)


def test_what_cant_be_verified_is_named_and_verifies_nothing(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    make_thing: dict[str, Callable[[Path], object]] = {
        "is a link to a folder": lambda path: path.symlink_to(tmp_path / "elsewhere"),
        "is a link to nothing": lambda path: path.symlink_to("nowhere"),
        "is no regular file": lambda path: os.mknod(
            path, stat.S_IFSOCK
        ),  # a pipe would hold up a test that fails
    }
    for step, (text, make_it) in enumerate(make_thing.items(), start=1):
        folder = make(tmp_path / "run", 0, step, torn=True)
        make_it(folder / "global_step" / "thing")
        with pytest.raises(CheckpointError, match=f"global_step/thing {text}"):
            checkpoints.write_manifest(folder, {"step": step})
    assert checkpoints.list_verified(tmp_path / "run") == []


def test_a_link_to_a_file_is_verified_as_the_file(tmp_path: Path) -> None:
    shared = tmp_path / "shared.bin"
    shared.write_bytes(b"weights")
    folder = make(tmp_path / "run", 0, 5, torn=True)
    (folder / "linked.bin").symlink_to(shared)
    checkpoints.write_manifest(folder, {"step": 5})
    [found] = checkpoints.list_verified(tmp_path / "run")
    shared.write_bytes(b"WEIGHTS")
    with pytest.raises(CheckpointError, match=r"linked\.bin does not hash"):
        checkpoints.verify_bytes(found, threads=2)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"step": 5, "files": []}', '{"step": 5, "files": [{}]}', '{"st',
        '{"step": 5, "files": [{"path": "model.bin", "size": 35, "hash": "sha256", "pieceBytes": 9, "pieces": []}]}',
    ],
)  # fmt: skip
def test_a_broken_manifest_is_none(tmp_path: Path, text: str) -> None:
    folder = make(tmp_path, 0, 5)
    (folder / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match="no valid manifest"):
        checkpoints.verify(folder)


def test_going_back_passes_over_torn_checkpoints_and_goes_by_attempt_then_step(tmp_path: Path) -> None:
    make(tmp_path, 0, 500)
    make(tmp_path, 1, 20)
    make(tmp_path, 1, 30, torn=True)
    found = [(checkpoint.attempt, checkpoint.step) for checkpoint in checkpoints.walk_back(tmp_path)]
    assert found == [(1, 20), (0, 500)]
    assert not list(checkpoints.walk_back(tmp_path / "a7"))


def test_rotation_keeps_the_newest_and_the_best_of_all_attempts(tmp_path: Path) -> None:
    for attempt, step, value in [(0, 10, 0.1), (0, 20, 0.9), (1, 30, 0.8), (1, 40, 0.7), (1, 50, 0.75)]:
        make(tmp_path, attempt, step, value)
    checkpoints.rotate(tmp_path, Policy(keep_last=2, keep_best=1, metric="eval_loss"))
    assert names(tmp_path) == ["a0/checkpoint-10", "a1/checkpoint-40", "a1/checkpoint-50"]


def test_best_is_largest_where_the_gate_is_a_minimum(tmp_path: Path) -> None:
    for step, value in [(10, 0.1), (20, 0.9), (30, 0.5)]:
        make(tmp_path, 0, step, value)
    policy = checkpoints.read_policy(
        {
            "checkpoint": {"keepLast": 1, "keepBest": 1},
            "gate": {"metric": "eval_loss", "min": 0.9, "max": None},
        }
    )
    checkpoints.rotate(tmp_path, policy)
    assert names(tmp_path) == ["a0/checkpoint-20", "a0/checkpoint-30"]


def test_rotation_deletes_torn_ones_only_behind_a_verified_one(tmp_path: Path) -> None:
    make(tmp_path, 0, 10, torn=True)
    make(tmp_path, 0, 20)
    make(tmp_path, 0, 30, torn=True)
    busy = make(tmp_path, 0, 15, torn=True)
    checkpoints.rotate(tmp_path, Policy(), busy=[busy])
    assert names(tmp_path) == ["a0/checkpoint-15", "a0/checkpoint-20", "a0/checkpoint-30"]


def test_without_a_verified_one_nothing_is_deleted(tmp_path: Path) -> None:
    make(tmp_path, 0, 10, torn=True)
    make(tmp_path, 0, 20, torn=True)
    assert checkpoints.rotate(tmp_path, Policy()) == []
    assert len(names(tmp_path)) == 2


def test_rotation_never_follows_a_link_out_of_the_run(tmp_path: Path) -> None:
    outside = make(tmp_path / "other", 0, 10)
    make(tmp_path / "run", 0, 20)
    (tmp_path / "run/a0/checkpoint-5").symlink_to(outside)
    checkpoints.rotate(tmp_path / "run", Policy())
    assert (outside / "model.bin").exists()


def test_the_agent_verifies_and_rotates_for_the_trainer(make_pod: MakePod) -> None:
    pod = make_pod(
        run_config={"checkpoint": {"keepLast": 1, "keepBest": 1}, "gate": {"metric": "eval_loss", "max": 1}}
    )
    pod.start(
        """
for step, value in ((10, 0.2), (20, 0.9), (30, float("nan"))):
    answer = save(step, metric="eval_loss", value=value)
    assert answer["state"] == "verified", answer
wait_for((runtime / "go").exists)
put("result.json", {"outcome": "succeeded", "step": 30})
"""
    )
    manifest = pod.run_path / "a0/checkpoint-30/manifest.json"
    wait_until(manifest.exists, "the last checkpoint")
    gone = pod.run_path / "a0/checkpoint-20"
    wait_until(lambda: not gone.exists(), "the rotation")
    progress = pod.progress()
    assert progress.last_checkpoint is not None and progress.last_checkpoint.step == 30
    assert progress.best_checkpoint is not None and progress.best_checkpoint.step == 10
    status, body = pod.get("/v1/checkpoint/30")
    assert (status, json.loads(body)["state"]) == (200, "verified")
    assert pod.get("/v1/checkpoint/99")[0] == 404
    (pod.runtime / "go").touch()
    assert pod.wait() == 0
    assert pod.result().last_checkpoint == progress.last_checkpoint


def test_a_value_that_is_known_after_saving_makes_a_checkpoint_the_best(make_pod: MakePod) -> None:
    pod = make_pod(
        run_config={"checkpoint": {"keepLast": 1, "keepBest": 1}, "gate": {"metric": "eval_loss", "max": 1}}
    )
    pod.start(
        """
save(10, metric="eval_loss", value=0.9)
save(20)
wait_for((runtime / "go").exists)
put("result.json", {"outcome": "succeeded", "step": 20})
"""
    )
    manifest = pod.run_path / "a0/checkpoint-20/manifest.json"
    wait_until(manifest.exists, "the last checkpoint")
    before = json.loads(manifest.read_text())
    assert "value" not in before
    assert pod.post("/v1/checkpoint/20", {"metric": "eval_loss", "value": 0.5})[0] == 202
    status, body = pod.get("/v1/checkpoint/20?wait=60")
    assert (status, json.loads(body)["checkpoint"]["value"]) == (200, 0.5)
    assert json.loads(manifest.read_text()) == {**before, "metric": "eval_loss", "value": 0.5}
    best = pod.progress().best_checkpoint
    assert best is not None and (best.step, best.value) == (20, 0.5)
    gone = pod.run_path / "a0/checkpoint-10"
    wait_until(lambda: not gone.exists(), "the rotation")
    (pod.runtime / "go").touch()
    assert pod.wait() == 0


@pytest.mark.parametrize(
    ("step", "body", "message"),
    [
        (3, {"metric": "eval_loss", "value": 0.5}, "nobody asked"),
        (1, {"metric": "eval_loss", "value": "low"}, "finite number"),
        (1, {"value": 0.5}, "metric"),
    ],
)
def test_only_a_number_for_a_checkpoint_that_is_known_is_taken(
    make_pod: MakePod, step: int, body: object, message: str
) -> None:
    pod = make_pod().start("save(1)\ntime.sleep(600)")
    wait_until((pod.run_path / "a0/checkpoint-1/manifest.json").exists, "the checkpoint")
    status, answer = pod.post(f"/v1/checkpoint/{step}", body)
    assert status == 400 and message in json.loads(answer)["message"]


def test_a_value_doesnt_make_a_torn_checkpoint_whole(make_pod: MakePod) -> None:
    pod = make_pod().start("time.sleep(600)")
    path = "runs/team/job-12345678/a0/checkpoint-1"
    assert pod.post("/v1/checkpoint", {"step": 1, "path": path})[0] == 202
    assert pod.post("/v1/checkpoint/1", {"metric": "eval_loss", "value": 0.5})[0] == 202
    answer = json.loads(pod.get("/v1/checkpoint/1?wait=60")[1])
    assert answer["state"] == "failed" and answer["message"].startswith("verifying")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"step": -1, "path": "x"}, "step"),
        ({"step": 1, "path": "runs/team/other-12345678/a0/checkpoint-1"}, "path must be"),
        ({"step": 1, "path": "runs/team/job-12345678/a0/../../checkpoint-1"}, "path must be"),
        ({"step": 1, "path": "runs/team/job-12345678/a0/checkpoint-1", "attempt": 4}, "attempt 0"),
    ],
)
def test_only_this_attempts_own_checkpoints_are_taken(make_pod: MakePod, body: object, message: str) -> None:
    pod = make_pod().start("time.sleep(600)")
    status, answer = pod.post("/v1/checkpoint", body)
    assert status == 400 and message in json.loads(answer)["message"]


def test_a_checkpoint_without_files_fails_with_a_reason(make_pod: MakePod) -> None:
    pod = make_pod().start("time.sleep(600)")
    path = "runs/team/job-12345678/a0/checkpoint-1"
    assert pod.post("/v1/checkpoint", {"step": 1, "path": path})[0] == 202
    answer = json.loads(pod.get("/v1/checkpoint/1?wait=60")[1])
    assert answer["state"] == "failed" and "checkpoint-1" in answer["message"]
