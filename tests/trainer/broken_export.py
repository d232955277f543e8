"""The train stage with an export that goes wrong: `BROKEN` names how. Run in its place."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tests.unit.trainer.damage import break_folder


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
