"""How much may be remembered: the key-value cache, sized by what the container has left."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard_agent.resources import read_memory_limit

from modelyard_server.failure import Failure

log = logging.getLogger(__name__)

PAGE = 32  # tokens of a block: a request wastes half of one, and prompts share whole ones
_MARGIN = 0.1  # of the limit, for what nobody counts
_UNASKED = 4 << 30  # bytes of a node that nobody has granted; one request may take more
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a model needs, in bytes: for each token that is remembered, and for each step, however little is remembered.

    A remembered token also costs a place in each step's mask, and a copy of one layer's keys and values while that is
    read.
    """

    token: int
    step: int

    @classmethod
    def of(cls, about: Any, itemsize: int, batch_tokens: int, at_once: int) -> Sizes:
        """By transformers' configuration; `itemsize` is that of a number, `at_once` the requests of one step."""
        from transformers.generation.continuous_batching.utils import find_head_dim, find_num_key_value_heads

        heads, size = about.num_attention_heads, find_head_dim(about)
        pair = 2 * find_num_key_value_heads(about) * size * itemsize
        read = pair + 2 * heads * size * itemsize + batch_tokens * itemsize + 8
        widest = max(getattr(about, "intermediate_size", None) or 4 * about.hidden_size, about.hidden_size)
        return cls(
            token=about.num_hidden_layers * pair + read,
            # Logits thrice: as they come, in float32, and as probabilities.
            step=at_once * about.vocab_size * 3 * 4
            + batch_tokens * (4 * widest + 4 * heads * size) * itemsize,
        )


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes: what may be taken, and how much of it for more than one request of the longest length."""

    free: int
    unasked: int


def plan_blocks(sizes: Sizes, room: Room, limit: int, at_once: int) -> int:
    """Blocks of PAGE tokens: as many as `at_once` requests of `limit` tokens could use, or as there is room for.

    Raises Failure (HostOutOfMemory) where not even one request fits.
    """
    each, block = -(-limit // PAGE), sizes.token * PAGE
    free = room.free
    fitting = max(0, free - sizes.step) // block
    if fitting < each:
        needed = (sizes.token * each * PAGE + sizes.step) // _MIB
        advice = f", or set server.maxLength to {fitting * PAGE} or less" if fitting else ""
        raise Failure(
            "HostOutOfMemory",
            f"one request of {limit} tokens needs {needed} MiB beside the model, and {max(0, free) // _MIB} MiB are"
            f" left: raise server.resources.limits.memory{advice}",
        )
    blocks = min(fitting, each * at_once, max(each, room.unasked // block))
    log.info("the cache has room for %d tokens in %d MiB", blocks * PAGE, blocks * PAGE * sizes.token // _MIB)
    return blocks


def read_room(device: Any) -> Room:
    """Where the model is: of the GPU, or of the container.

    Without a limit of the container, half of what the node has left, and 4 GiB of it unasked.
    """
    if device.type == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info(device)
        return _granted(int(free - _MARGIN * total))
    available = _read_kib(Path("/proc/meminfo"), "MemAvailable:")
    limit = read_memory_limit()
    if limit is None:  # the node's memory is others' too
        return Room(available // 2, _UNASKED)
    used = _read_kib(Path("/proc/self/status"), "VmRSS:")
    return _granted(int(min(limit - used, available) - _MARGIN * limit))


def _granted(free: int) -> Room:
    return Room(free, unasked=max(0, free))


def _read_kib(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise Failure("StartFailed", f"{path} has no {name} line", temporary=True)
