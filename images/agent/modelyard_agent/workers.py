"""The training processes of this node: which rank each is, and how often they were started again."""

from pathlib import Path
from typing import Any, Dict, Sequence, Set

from modelyard_agent.files import read_object
from modelyard_agent.processes import Process, read_environment


class Workers:
    """Built from repeated looks at the process table. torchrun gives each worker RANK and LOCAL_RANK.

    `introduced` is the folder in which forked ones leave those: their environment can't be seen from outside.
    """

    def __init__(self, introduced: Path) -> None:
        self._introduced = introduced
        self._pids: Dict[int, Set[int]] = {}
        self._restart_count = 0

    @property
    def seen(self) -> bool:
        """True once torchrun has started workers: the nodes have met."""
        return bool(self._pids)

    @property
    def restarts(self) -> int:
        """Restarts in place, of whatever node's fault: torchrun's own count knows only those of this node."""
        return max([self._restart_count] + [len(pids) - 1 for pids in self._pids.values()])

    def are_alive(self, processes: Sequence[Process]) -> bool:
        """Whether any of them is among the living processes."""
        known = set().union(*self._pids.values())
        return any(process.pid in known for process in processes)

    def observe(self, launcher: int, processes: Sequence[Process]) -> None:
        """Take a look at the process table in."""
        for process in processes:
            if any(process.pid in pids for pids in self._pids.values()):
                continue
            told: Dict[str, Any] = read_object(self._introduced / "{}.json".format(process.pid)) or {}
            if not told and process.parent == launcher:
                told = dict(read_environment(process.pid))
            rank, local_rank = str(told.get("RANK", "")), str(told.get("LOCAL_RANK", ""))
            if rank.isdigit() and local_rank.isdigit():
                self._pids.setdefault(int(local_rank), set()).add(process.pid)
                count = str(told.get("TORCHELASTIC_RESTART_COUNT", ""))
                self._restart_count = max(self._restart_count, int(count) if count.isdigit() else 0)
