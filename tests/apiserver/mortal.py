"""An operator that is killed (SIGKILL) by a write of its own, after the server has taken it and before it knows.

By its first, or by the one whose number $MORTAL_WRITE is.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from typing import Any

from modelyard.__main__ import main
from modelyard.cluster.client import Client

_call = Client.call
_left = itertools.count(int(os.environ.get("MORTAL_WRITE", "1")) - 1, -1)


async def call_and_die(self: Client, method: str, path: str, resource: str, **options: Any) -> dict[str, Any]:
    """Dies of that write; the Lease's don't count."""
    answer = await _call(self, method, path, resource, **options)
    if method != "GET" and resource != "leases" and next(_left) <= 0:
        sys.stderr.write(f"killed by {method} {path}\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return answer


if __name__ == "__main__":
    Client.call = call_and_die  # type: ignore[method-assign]
    sys.exit(main())
