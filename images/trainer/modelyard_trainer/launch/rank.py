"""One rank, as a function: what `python -m modelyard_trainer.train` is as a program."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from modelyard.contract import codes
from modelyard_models.files import write_json

from modelyard_trainer.train import main as training

_TOLD = ("RANK", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT")


def run_rank() -> None:
    """Trains. Ends the process where the program would end with an exit code other than 0."""
    _introduce()
    try:
        code = training.main()
    except Exception:
        # As the interpreter would, torch's mark of the rank included; torchrun's own would come without it.
        sys.excepthook(*sys.exc_info())
        code = 1
    if code:
        sys.exit(code)


def _introduce() -> None:
    """Tells the agent, and whoever looks at the processes, which this one is: they would see what the server was."""
    runtime = Path(os.environ.get(codes.ENV_RUNTIME_DIR) or codes.RUNTIME_PATH)
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(f"rank-{os.environ['RANK']}")
    told = {name: os.environ[name] for name in _TOLD}
    write_json(runtime / codes.RANKS_FOLDER / f"{os.getpid()}.json", told)
