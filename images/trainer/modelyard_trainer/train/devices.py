"""What must be settled before torch and DeepSpeed do anything: devices, threads, backends."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Devices:
    """What this process computes on."""

    gpu: bool
    bfloat16: bool  # a GPU that computes in it


def set_up_process(rank: int) -> Devices:
    """Prepares this process; to be called before transformers is imported."""
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.WARNING,
        format=f"%(asctime)s %(levelname)s rank {rank}: %(message)s",
        stream=sys.stderr,
    )
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Found by itself, but only after it has warned about every accelerator that isn't there.
    import torch

    gpu = torch.cuda.is_available()
    if not gpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    _quiet_libraries(rank)
    skip_shared_memory_op()
    return Devices(gpu=gpu, bfloat16=gpu and torch.cuda.is_bf16_supported())


def skip_shared_memory_op() -> None:
    """Keeps DeepSpeed on CPUs from compiling an all-reduce that only its inference uses.

    It would want ninja and a C++ compiler in the image and 30 s at the first start.
    """
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _quiet_libraries(rank: int) -> None:
    # It misses triton, which only counting the operations of triton kernels would need.
    logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)
    import deepspeed.utils
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    deepspeed.utils.logger.setLevel(logging.WARNING)
    for name in ("accelerate", "transformers"):
        logging.getLogger(name).setLevel(logging.WARNING if rank == 0 else logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
