"""What an exception of torch, transformers or the file system means for the one who started the run."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

from modelyard_models.failure import Failure, describe, lacks_device_memory, lacks_memory, storage_failure

# Another rank or a device that is gone, not a setting: the same may go well at the next start.
_PASSING = re.compile(
    r"Connection (reset|refused|closed)|Broken pipe|timed? ?out|Timeout|NCCL|RendezvousConnectionError|"
    r"CUDA error|CUDNN|cuBLAS|CUBLAS|HIP error|device-side|DistNetworkError|DistStoreError|gloo",
    re.IGNORECASE,
)


def explain(error: BaseException) -> Failure | None:
    """The failure behind an exception at any time of a run, or None if it isn't known."""
    text = str(error)
    if lacks_device_memory(error):
        return Failure(
            "CUDAOutOfMemory",
            f"{text.splitlines()[0]} Lower training.perDeviceTrainBatchSize or maxLength, or raise "
            "deepspeed.zeroStage",
        )
    if lacks_memory(error):
        return Failure(
            "HostOutOfMemory",
            "the process ran out of memory; raise resourcesPerNode.limits.memory, or lower the batch size",
        )
    if isinstance(error, OSError) and error.filename is not None:
        return storage_failure(error, "training")
    if "No space left on device" in text or "PytorchStreamWriter failed writing file" in text:
        return storage_failure(OSError(28, "No space left on device"), "saving a checkpoint")
    return None


def explain_start(error: BaseException) -> Failure | None:
    """The failure behind an exception before the first step of our own trainer; None for what may pass by itself.

    Nothing random has happened by then: whatever the libraries refuse, they refuse again.
    """
    known = explain(error)
    if known is not None:
        return known
    if isinstance(error, ConnectionError | TimeoutError) or _PASSING.search(
        f"{type(error).__name__}: {error}"
    ):
        return None
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return Failure(
        "StartFailed",
        f"training could not begin: {describe(error)}{where}; it would end the same again: change what it names in"
        " spec.training, spec.deepspeed or spec.model",
    )
