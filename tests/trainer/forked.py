"""The built-in trainer's torchrun with ranks that do what BEHAVIOUR says instead of training.

`python -m tests.trainer.forked` with torchrun's options. BEHAVIOUR is Python, run in each rank with `rank`, `restart`,
`forked` (whether it has what was imported before) and `folder`, which FOLDER names; `code` is the trainer's exit code.
With IMPORTS what ranks need is really imported; else only one module that stands for it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from modelyard_trainer.launch import forking
from modelyard_trainer.launch.main import main
from modelyard_trainer.train import main as training

_IMPORTED = "took_long_to_import"


def _behave() -> int:
    scope: dict[str, Any] = {
        "code": 0,
        "rank": int(os.environ["RANK"]),
        "restart": int(os.environ["TORCHELASTIC_RESTART_COUNT"]),
        "forked": _IMPORTED in sys.modules,
        "folder": Path(os.environ["FOLDER"]),
    }
    exec(os.environ["BEHAVIOUR"], scope)  # noqa: S102
    return int(scope["code"])


if __name__ == "__main__":
    training.main = _behave
    if "IMPORTS" not in os.environ:
        forking.import_all = lambda: sys.modules.update({_IMPORTED: ModuleType(_IMPORTED)})
    sys.exit(main(sys.argv[1:]))
