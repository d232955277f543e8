"""The cache is as large as the container allows, and as it is of use."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from modelyard_server.failure import Failure
from modelyard_server.generation import memory
from modelyard_server.generation.memory import PAGE, Room, Sizes, plan_blocks, read_room

MIB = 1 << 20
SIZES = Sizes(token=MIB // PAGE, step=MIB)
ABOUT = SimpleNamespace(
    num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, head_dim=64, hidden_size=576,
    intermediate_size=1536, vocab_size=49152,
)  # fmt: skip


def test_a_token_costs_its_keys_and_values_in_every_layer_and_its_reading() -> None:
    sizes = Sizes.of(ABOUT, 4, batch_tokens=256, at_once=64)
    stored = 30 * 2 * 3 * 64 * 4
    assert stored < sizes.token < 1.2 * stored
    assert sizes.step > 64 * 49152 * 3 * 4  # logits of all, three times
    assert Sizes.of(ABOUT, 2, batch_tokens=256, at_once=64).token == sizes.token // 2 + 4


@pytest.mark.parametrize(("free", "blocks"), [(2000 * MIB, 64 * 16), (32 * MIB, 31), (17 * MIB, 16)])
def test_there_are_as_many_blocks_as_fit_and_no_more_than_can_be_used(free: int, blocks: int) -> None:
    room = Room(free, unasked=free)
    assert plan_blocks(SIZES, room, limit=16 * PAGE - 3, at_once=64) == blocks


@pytest.mark.parametrize(("unasked", "blocks"), [(100, 100), (5, 16), (10_000, 1000)])
def test_of_what_nobody_granted_little_is_taken_but_as_much_as_one_request_needs(
    unasked: int, blocks: int
) -> None:
    room = Room(1001 * MIB, unasked * MIB)
    assert plan_blocks(SIZES, room, limit=16 * PAGE, at_once=64) == blocks


def test_a_model_whose_one_request_does_not_fit_is_refused_with_the_figures() -> None:
    with pytest.raises(Failure) as caught:
        plan_blocks(SIZES, Room(16 * MIB, 16 * MIB), limit=16 * PAGE, at_once=64)
    assert caught.value.reason == "HostOutOfMemory"
    assert caught.value.message == (
        f"one request of {16 * PAGE} tokens needs 17 MiB beside the model, and 16 MiB are left: raise"
        f" server.resources.limits.memory, or set server.maxLength to {15 * PAGE} or less"
    )
    with pytest.raises(Failure) as caught:
        plan_blocks(SIZES, Room(-5, 0), limit=16 * PAGE, at_once=64)
    assert caught.value.message.endswith("0 MiB are left: raise server.resources.limits.memory")


def test_what_is_left_is_the_containers_limit_without_what_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = torch.device("cpu")
    used = memory._read_kib(Path("/proc/self/status"), "VmRSS:")
    monkeypatch.setattr(memory, "read_memory_limit", lambda: used + 1000 * MIB)
    near = 0.9 * (used + 1000 * MIB) - used
    assert read_room(cpu).free == pytest.approx(near, abs=50 * MIB)
    assert read_room(cpu).unasked == pytest.approx(near, abs=50 * MIB)
    monkeypatch.setattr(memory, "read_memory_limit", lambda: None)
    left = memory._read_kib(Path("/proc/meminfo"), "MemAvailable:")
    room = read_room(cpu)
    assert 0.3 * left < room.free < 0.7 * left  # others take and give meanwhile
    assert room.unasked == 4096 * MIB
