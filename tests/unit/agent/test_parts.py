"""Nodes verify a checkpoint together; whatever of it is missing, late, torn or of another save, none is verified."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelyard_agent import checkpoints, hashing, parts
from modelyard_agent.files import read_object
from modelyard_agent.hashing import CheckpointError, Piece
from modelyard_agent.parts import Share

from tests.unit.agent import dying
from tests.unit.agent.conftest import MakePod
from tests.unit.agent.pods import wait_until

SAVE = "0123456789abcdef"
OTHER_SAVE = "fedcba9876543210"
RANKED = (
    "global_step1/zero_pp_rank_{}_mp_rank_00_model_states.pt",
    "global_step1/bf16_zero_pp_rank_{}_mp_rank_00_optim_states.pt",
    "rng_state_{}.pth",
)
COMMON = (
    "global_step1/mp_rank_00_model_states.pt",
    "latest",
    "model.safetensors",
    "rng_state.pth",
    "trainer_state.json",
)


def share(node: int, save: str = SAVE) -> Share:
    """Of two nodes with two ranks each."""
    return Share(save, node, 2, range(2 * node, 2 * node + 2))


def write_files(run: Path, step: int = 1, ranks: int = 4, text: str = "") -> Path:
    folder = run / f"a0/checkpoint-{step}"
    for name in [*COMMON, *(name.format(rank) for name in RANKED for rank in range(ranks))]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name * step + text)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def find_parts(folder: Path) -> list[str]:
    return [name for name in names(folder) if name.startswith(".part-")]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SILENT_SECONDS", 1.0)


def test_each_file_has_one_node(tmp_path: Path) -> None:
    folder = write_files(tmp_path)
    own = [parts.choose_own(names(folder), share(node)) for node in range(2)]
    assert sorted(own[0] + own[1]) == names(folder)
    assert own[1] == sorted(name.format(rank) for name in RANKED for rank in (2, 3))
    assert parts.choose_own(names(folder), None) == names(folder)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.one_of(st.none(), st.integers(0, 4))), max_size=30),
    st.integers(1, 9),
)
def test_shares_are_even_and_every_piece_has_one(drawn: list[tuple[int, int | None]], shares: int) -> None:
    pieces = [
        Piece(f"{index}" if rank is None else f"rng_state_{rank}.{index}", 0, length, "sha256", "")
        for index, (length, rank) in enumerate(drawn)
    ]
    divided = [parts.divide(pieces, index, shares) for index in range(shares)]
    assert sorted(p.path for part in divided for p in part) == sorted(p.path for p in pieces)
    largest = max((piece.length for piece in pieces), default=0)
    even = sum(piece.length for piece in pieces) / shares
    assert max(sum(piece.length for piece in part) for part in divided) <= even + 2 * largest


def test_where_the_world_is_as_it_was_each_rank_reads_what_it_is_going_to_load() -> None:
    paths = [name.format(rank) for name in RANKED[:2] for rank in range(12)]
    pieces = [Piece(path, 0, 1000, "sha256", "") for path in sorted(paths)]
    for rank in range(12):
        assert {parts.find_rank(piece.path) for piece in parts.divide(pieces, rank, 12)} == {rank}


def test_the_manifest_names_the_files_of_all_nodes_and_the_parts_are_gone(tmp_path: Path) -> None:
    folder = write_files(tmp_path)
    wanted = names(folder)
    other = threading.Thread(target=checkpoints.write_part, args=(folder, share(1)))
    other.start()
    manifest = checkpoints.write_manifest(folder, {"step": 1}, share(0))
    other.join()
    assert [file["path"] for file in manifest["files"]] == wanted
    assert names(folder) == sorted([*wanted, "manifest.json"])
    [found] = checkpoints.list_verified(tmp_path)
    checkpoints.verify_bytes(found, threads=1)


def test_each_node_hashes_its_own_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    hash_piece = hashing._hash

    def remember(path: Path, offset: int, length: int, algorithm: str) -> str:
        hashed.append(path.name)
        return hash_piece(path, offset, length, algorithm)

    monkeypatch.setattr(hashing, "_hash", remember)
    folder = write_files(tmp_path)
    checkpoints.write_part(folder, share(1))
    assert sorted(hashed) == sorted(Path(name.format(rank)).name for name in RANKED for rank in (2, 3))
    checkpoints.write_manifest(folder, {"step": 1}, share(0))
    assert sorted(hashed) == sorted(Path(name).name for name in names(folder) if name != "manifest.json")


def test_what_is_of_no_nodes_ranks_is_left_to_node_0(tmp_path: Path) -> None:
    folder = write_files(tmp_path, ranks=6)  # two more than the nodes have
    checkpoints.write_part(folder, share(1))
    manifest = checkpoints.write_manifest(folder, {"step": 1}, share(0))
    assert len(manifest["files"]) == len(COMMON) + 6 * len(RANKED)


def test_a_part_of_an_earlier_try_at_the_step_is_not_taken(tmp_path: Path) -> None:
    folder = write_files(tmp_path)
    checkpoints.write_part(folder, share(1, OTHER_SAVE))
    with pytest.raises(CheckpointError, match="node 1 has not verified its part"):
        checkpoints.write_manifest(folder, {"step": 1}, share(0))
    assert not checkpoints.list_verified(tmp_path)
    checkpoints.write_part(folder, share(1))
    manifest = checkpoints.write_manifest(folder, {"step": 1}, share(0))
    assert not any(".part-" in file["path"] for file in manifest["files"])


def test_a_part_that_comes_too_late_changes_nothing(tmp_path: Path) -> None:
    folder = write_files(tmp_path)
    with pytest.raises(CheckpointError, match="node 1"):
        checkpoints.write_manifest(folder, {"step": 1}, share(0))
    checkpoints.write_part(folder, share(1))
    assert not checkpoints.list_verified(tmp_path)
    checkpoints.remove(folder)
    assert not folder.exists()


def test_a_part_for_a_checkpoint_that_was_removed_does_not_make_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_files(tmp_path)
    describe = hashing.describe_files

    def describe_and_remove(*given: Any) -> Any:
        described = describe(*given)
        checkpoints.remove(folder)
        return described

    monkeypatch.setattr(hashing, "describe_files", describe_and_remove)
    with pytest.raises(CheckpointError, match="vanished"):
        checkpoints.write_part(folder, share(1))
    assert not folder.exists()


def test_a_file_that_changes_while_its_node_hashes_it_fails_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_files(tmp_path)
    hash_piece = hashing._hash

    def disturb(path: Path, offset: int, length: int, algorithm: str) -> str:
        path.write_text("other states")
        return hash_piece(path, offset, length, algorithm)

    with monkeypatch.context() as patched:
        patched.setattr(hashing, "_hash", disturb)
        with pytest.raises(CheckpointError, match="changed"):
            checkpoints.write_part(folder, share(1))
    with pytest.raises(CheckpointError, match=r"node 1 could not verify its part: .* changed"):
        checkpoints.write_manifest(folder, {"step": 1}, share(0))


def test_a_part_that_comes_while_its_checkpoint_is_removed_does_not_stop_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_files(tmp_path)
    rmdir = os.rmdir
    came: list[int] = []

    def rmdir_late(path: Any, **given: Any) -> None:
        if not came and Path(path).name == folder.name:
            came.append((folder / ".part-late").write_text("{}"))
        rmdir(path, **given)

    monkeypatch.setattr(os, "rmdir", rmdir_late)
    checkpoints.remove(folder)
    assert came and not folder.exists()


def test_a_torn_part_is_not_taken_until_it_is_whole(tmp_path: Path) -> None:
    folder = write_files(tmp_path)
    checkpoints.write_part(folder, share(1))
    [part] = find_parts(folder)
    whole = (folder / part).read_bytes()
    for length in range(0, len(whole), 40):
        (folder / part).write_bytes(whole[:length])
        assert read_object(folder / part) is None
    with pytest.raises(CheckpointError, match="node 1"):
        checkpoints.write_manifest(folder, {"step": 1}, share(0))
    (folder / part).write_bytes(whole)
    assert checkpoints.write_manifest(folder, {"step": 1}, share(0))


def test_what_fails_on_a_node_fails_at_once_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_files(tmp_path)
    monkeypatch.setattr(parts, "SILENT_SECONDS", 1e9)

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(hashing, "describe_files", fail)
        with pytest.raises(OSError, match="Input/output"):
            checkpoints.write_part(folder, share(1))
    with pytest.raises(CheckpointError, match=r"node 1 could not verify its part: .*Input/output error"):
        checkpoints.write_manifest(folder, {"step": 1}, share(0))


def test_a_slow_node_is_waited_for_as_long_as_it_gives_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_files(tmp_path)
    monkeypatch.setattr(parts, "BEAT_SECONDS", 0.02)
    describe, read_beat = hashing.describe_files, parts._read_beat
    now, beats, enough = [0.0], {""}, threading.Event()

    def read_and_let_time_pass(attempt: Path, node: int) -> str:
        beat = read_beat(attempt, node)
        if beat not in beats:
            beats.add(beat)
            now[0] += 0.6 * parts.SILENT_SECONDS
        if len(beats) > 10:
            enough.set()
        return beat

    def describe_slowly(inner: Path, chosen: list[str], threads: int) -> Any:
        if chosen and "latest" not in chosen:
            assert enough.wait(60), "too few signs of life"
        return describe(inner, chosen, threads)

    clock = SimpleNamespace(monotonic=lambda: now[0], time=time.time, sleep=time.sleep)
    monkeypatch.setattr(parts, "time", clock)
    monkeypatch.setattr(parts, "_read_beat", read_and_let_time_pass)
    monkeypatch.setattr(hashing, "describe_files", describe_slowly)
    other = threading.Thread(target=checkpoints.write_part, args=(folder, share(1)))
    other.start()
    checkpoints.write_manifest(folder, {"step": 1}, share(0))
    other.join()
    assert checkpoints.list_verified(tmp_path)


def test_a_step_that_is_saved_again_while_parts_are_waited_for_is_not_verified_by_the_old_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_files(tmp_path)
    checkpoints.write_part(folder, share(1))
    collect = parts.collect

    def save_again(inner: Path, mine: Share) -> Any:
        files = collect(inner, mine)
        checkpoints.remove(folder)
        write_files(tmp_path)  # the same files, of the same sizes
        return files

    monkeypatch.setattr(parts, "collect", save_again)
    with pytest.raises(CheckpointError, match="changed while"):
        checkpoints.write_manifest(folder, {"step": 1}, share(0))
    assert not (folder / "manifest.json").exists()


@pytest.mark.parametrize("change", ["lacks", "has another"])
def test_nodes_that_see_other_files_verify_nothing(tmp_path: Path, change: str) -> None:
    folder = write_files(tmp_path)
    extra = folder / RANKED[2].format(3).replace("3", "2_more")
    if change == "has another":
        extra.touch()
    checkpoints.write_part(folder, share(1))
    if change == "has another":
        extra.unlink()
    else:
        [part] = find_parts(folder)
        content = json.loads((folder / part).read_text())
        content["files"][0]["size"] += 1
        (folder / part).write_text(json.dumps(content))
    with pytest.raises(CheckpointError):
        checkpoints.write_manifest(folder, {"step": 1}, share(0))
    assert not (folder / "manifest.json").exists()


def verify_together(folder: Path, points: dict[int, str]) -> None:
    """Both nodes as processes, each killed at its point, to their end."""
    command = [sys.executable, "-m", dying.__name__, str(folder)]
    nodes = [
        subprocess.Popen(
            [*command, json.dumps(share(node).describe()), points.get(node, "")], stderr=subprocess.PIPE
        )
        for node in range(2)
    ]
    for node, process in enumerate(nodes):
        _, words = process.communicate(timeout=60)
        if node in points:
            assert process.returncode == -9, words.decode()


KILLS = [
    *(({1: point}, 1) for point in dying.POINTS_OF_NODE_1),
    *(({0: point}, 1) for point in dying.POINTS_OF_NODE_0),
    ({0: "before the parts", 1: "before its part"}, 1),
    ({0: "after its manifest"}, 2),
    ({}, 2),
]


@pytest.mark.parametrize(("points", "newest"), KILLS)
def test_wherever_a_node_is_killed_no_torn_checkpoint_counts_and_the_right_one_is_next(
    tmp_path: Path, points: dict[int, str], newest: int
) -> None:
    verify_together(write_files(tmp_path, 1), {})
    torn = write_files(tmp_path, 2)
    verify_together(torn, points)
    found = list(checkpoints.walk_back(tmp_path))
    assert found[0].step == newest
    for checkpoint in found:
        checkpoints.verify_bytes(checkpoint, threads=2)
    # Tried once more, as processes do that were started again in place.
    checkpoints.remove(torn)
    verify_together(write_files(tmp_path, 2, text="again"), {})
    assert next(checkpoints.walk_back(tmp_path)).step == 2
    assert find_parts(torn) == []


SAVE_SHARE = """
node = int(os.environ["NODE"])
folder = Path("runs/team/job-12345678/a0/checkpoint-1")
(storage / folder).mkdir(parents=True, exist_ok=True)
for name in ("rng_state_%d.pth" % node, "node-%d" % node):
    if node == 0 or name.startswith("rng"):
        (storage / folder / name).write_text(name)
(storage / ("saved-%d" % node)).touch()
wait_for(lambda: all((storage / ("saved-%d" % each)).exists() for each in range(2)))
share = {"save": "0123456789abcdef", "node": node, "nodes": 2, "firstRank": node, "ranks": 1}
assert client.request_verification(step=1, path=folder.as_posix(), share=share)
put("answer.json", client.wait_for_verification(1, 60))
wait_for((storage / "end").exists)
put("result.json", {"outcome": "succeeded", "step": 1})
"""


def test_two_agents_verify_one_checkpoint(make_pod: MakePod) -> None:
    pods = [make_pod("pod-0")]
    pods.append(make_pod("pod-1", storage=str(pods[0].storage)))
    for node, pod in enumerate(pods):
        pod.environment = {"NODE": str(node), "MODELYARD_STORAGE": str(pods[0].storage)}
        pod.start(SAVE_SHARE)
    answers = [wait_until((pod.runtime / "answer.json").exists, "an answer") and pod.runtime for pod in pods]
    states = [json.loads((runtime / "answer.json").read_text())["state"] for runtime in answers]
    assert states == ["verified", "hashed"]
    [found] = checkpoints.list_verified(pods[0].run_path)
    assert [file["path"] for file in found.manifest["files"]] == [
        "node-0",
        "rng_state_0.pth",
        "rng_state_1.pth",
    ]
    (pods[0].storage / "end").touch()
    assert [pod.wait() for pod in pods] == [0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"save": "../../../../etc/x"}, "share.save must be"),
        ({"node": 2}, "below share.nodes"),
        ({"ranks": "many"}, "must be numbers"),
        ({"node": None}, "must be numbers"),
    ],
)
def test_a_wrong_share_is_refused(make_pod: MakePod, change: dict[str, Any], message: str) -> None:
    pod = make_pod().start("time.sleep(600)")
    body = {
        "step": 1,
        "path": "runs/team/job-12345678/a0/checkpoint-1",
        "share": share(1).describe() | change,
    }
    status, answer = pod.post("/v1/checkpoint", body)
    assert status == 400 and message in json.loads(answer)["message"]
