"""What torchrun does, but for how it starts the ranks."""

from __future__ import annotations

import time
from collections.abc import Sequence

from modelyard_agent import meeting
from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import record
from torch.distributed.elastic.rendezvous import RendezvousTimeoutError
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from modelyard_trainer.launch import forking
from modelyard_trainer.launch.rank import run_rank

_MODULE = "modelyard_trainer.train"


@record  # type: ignore[untyped-decorator]
def main(arguments: Sequence[str]) -> int:
    """Runs the ranks of this node to their end, starting them again as torchrun does. Raises what torchrun raises."""
    forked = forking.start_server()
    options = ["--start-method=forkserver", *arguments, "-m", _MODULE]
    config, command, words = run.config_from_args(run.parse_args(options))
    _meet(config)
    if forked:
        elastic_launch(config, run_rank)()
    else:
        elastic_launch(config, command)(*words)
    return 0


def _meet(config: LaunchConfig) -> None:
    """Waits on other nodes until node 0 listens, which it does when it has imported as much as they have by now.

    Raises RendezvousTimeoutError. torch's own wait is as short as each question to the store may take.
    """
    if config.rdzv_configs.get("is_host") != "0":
        return
    host, port = parse_rendezvous_endpoint(config.rdzv_endpoint, -1)
    try:
        meeting.wait_until_solved(
            lambda: meeting.find_closed(host, port), float(config.rdzv_configs["join_timeout"]), _rest
        )
    except meeting.MeetingError as error:
        raise RendezvousTimeoutError(str(error)) from None


def _rest(seconds: float) -> bool:
    time.sleep(seconds)  # who is asked to stop is ended by that
    return False
