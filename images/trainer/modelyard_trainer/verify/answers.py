"""What a model says to one input: the same few lines for the trained model and for the one loaded back."""

from __future__ import annotations

from typing import Any


def ask(model: Any, ids: list[int], device: Any) -> Any:
    """The model's logits for one row, unpadded, in float32 on the CPU. A task picks the answer out of them."""
    import torch

    batch = torch.tensor([ids], dtype=torch.long, device=device)
    with torch.no_grad():
        logits = model(input_ids=batch, attention_mask=torch.ones_like(batch)).logits
    return logits.detach().float().cpu()
