"""An attempt that a later one has followed must end: both would write what the other counts on.

The operator begins the next attempt once the pods of this one have ended, or their node has not answered for long.
Behind a broken network a pod may live on then, and reach the storage all the same. Each attempt makes its folder as
it begins, and that is what the earlier one looks for.
"""

import threading
import time
from pathlib import Path
from typing import Optional

from modelyard_agent import checkpoints

LOOK_SECONDS = 5.0


def find_successor(run_path: Path, attempt: int) -> Optional[int]:
    """The index of a later attempt that has begun; None where there is none, or the storage doesn't say."""
    return max((index for index in checkpoints.list_attempts(run_path) if index > attempt), default=None)


class Succession:
    """Looks again and again, in a thread of its own: storage that hangs must not keep the agent from anything."""

    def __init__(self, run_path: Path, attempt: int):
        self.successor: Optional[int] = None
        self._run_path = run_path
        self._attempt = attempt

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._look, name="succession", daemon=True).start()

    def _look(self) -> None:
        while self.successor is None:
            self.successor = find_successor(self._run_path, self._attempt)
            time.sleep(LOOK_SECONDS)
