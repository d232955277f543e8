"""Which models are stored in bfloat16 already."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from modelyard_build.variants.bf16 import Bf16
from safetensors.torch import save_file


@pytest.mark.parametrize(
    ("dtypes", "stored"),
    [
        ([torch.bfloat16], True),
        ([torch.bfloat16, torch.int64, torch.bool], True),  # of places and masks
        ([torch.bfloat16, torch.float32], False),
        ([torch.float16], False),
        # Numbers of eight bits and packed ones, with their scales.
        ([torch.float8_e4m3fn, torch.bfloat16], False),
        ([torch.float8_e5m2], False),
        ([torch.int32, torch.bfloat16], False),
        ([torch.uint8, torch.bfloat16], False),
        ([torch.int8], False),
        ([torch.int64], False),
    ],
)
def test_only_weights_in_bfloat16_are_stored_so(
    tmp_path: Path, dtypes: list[torch.dtype], stored: bool
) -> None:
    weights = {str(dtype): torch.zeros(4).to(dtype) for dtype in dtypes}
    save_file(weights, tmp_path / "model.safetensors")
    assert Bf16().is_stored(tmp_path) == stored
