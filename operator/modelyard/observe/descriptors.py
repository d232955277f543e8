"""How many questions may be held: each is an open connection, and a process has a limit of those."""

from __future__ import annotations

import resource

HELD = 4096  # 13 KiB each


def find_room() -> int:
    """Raises the limit as far as that needs, and returns for how many there is room; watches and calls have the rest.

    Container runtimes leave a process 1,024 files, and let it ask for many more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * HELD
    if 0 <= soft < wanted:
        soft = wanted if hard < 0 else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return HELD if soft < 0 else min(HELD, soft // 2)
