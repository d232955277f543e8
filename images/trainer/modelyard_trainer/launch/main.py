"""What torchrun does, but for how it starts the ranks."""

from __future__ import annotations

from collections.abc import Sequence

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import record
from torch.distributed.launcher.api import elastic_launch

from modelyard_trainer.launch import forking
from modelyard_trainer.launch.rank import run_rank

_MODULE = "modelyard_trainer.train"


@record  # type: ignore[untyped-decorator]
def main(arguments: Sequence[str]) -> int:
    """Runs the ranks of this node to their end, starting them again as torchrun does. Raises what torchrun raises."""
    forked = forking.start_server()
    options = ["--start-method=forkserver", *arguments, "-m", _MODULE]
    config, command, words = run.config_from_args(run.parse_args(options))
    if forked:
        elastic_launch(config, run_rank)()
    else:
        elastic_launch(config, command)(*words)
    return 0
