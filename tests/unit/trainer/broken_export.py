"""The train stage with an export that goes wrong: `BROKEN` names how. Run under torchrun in its place."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


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


def main() -> int:
    """Trains as ever, with one thing replaced."""
    how = os.environ["BROKEN"]
    from modelyard_trainer.train import reload
    from modelyard_trainer.train.main import main as train
    from transformers import Trainer

    if how == "large":  # nothing is broken, but the model is taken for too large to be loaded again
        reload.MOST_BYTES = 0
        return train()
    save = Trainer.save_model

    def save_model(self: Any, output_dir: str | None = None, **more: Any) -> None:
        save(self, output_dir, **more)
        # Checkpoints are saved by another way.
        if (
            output_dir is not None
            and Path(output_dir).name.startswith(".tmp-model")
            and self.args.should_save
        ):
            break_folder(Path(output_dir), how)

    Trainer.save_model = save_model
    return train()


if __name__ == "__main__":
    sys.exit(main())
