"""What a model says to one input: the same few lines for the trained model and for the one loaded back."""

from __future__ import annotations

from typing import Any


def answer(model: Any, ids: list[int], device: Any, labelled: bool) -> Any:
    """Logits in float32: of the classes if `labelled`, else of the token that follows. One row, unpadded."""
    import torch

    batch = torch.tensor([ids], dtype=torch.long, device=device)
    with torch.no_grad():
        logits = model(input_ids=batch, attention_mask=torch.ones_like(batch)).logits
    return (logits[0] if labelled else logits[0, -1]).detach().float().cpu()
