"""Models written as a faulty exporter would."""

from __future__ import annotations

import json
from pathlib import Path


def break_folder(folder: Path, how: str) -> None:
    """Damages a written model as a faulty exporter would."""
    from safetensors.torch import load_file, save_file

    if how == "configuration":
        about = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(about | {"hidden_act": "relu", "layer_norm_eps": 0.5}))
        return
    weights = load_file(folder / "model.safetensors")
    name = next(n for n in sorted(weights) if weights[n].dim() == 2 and weights[n].shape[0] > 2)
    if how == "missing":
        del weights[name]
    elif how == "permuted":
        weights[name] = weights[name].flip(0).contiguous()
    elif how == "random":
        weights[name] = weights[name].normal_()
    elif how == "shape":
        weights[name] = weights[name][:-1].contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
