"""How many connections to pods may stay open."""

from __future__ import annotations

import subprocess
import sys

import pytest
from modelyard.observe.descriptors import HELD

COUNT = """
import resource
from modelyard.observe.descriptors import find_room
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(find_room(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "room", "after"),
    [
        (1024, 2 * HELD + 500, HELD, 2 * HELD),  # as container runtimes leave it
        (1024, 1024, 512, 1024),
        (300, 2000, 1000, 2000),
        (2 * HELD + 100, 2 * HELD + 500, HELD, 2 * HELD + 100),
    ],
)
def test_there_is_room_for_as_many_as_the_process_may_open(
    soft: int, hard: int, room: int, after: int
) -> None:
    program = COUNT.format(soft=soft, hard=hard)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(room), str(after)]
