"""An operator that is killed (SIGKILL) by its own first write, after the server has taken it and before it
knows.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from modelyard.__main__ import main
from modelyard.cluster.client import Client

_call = Client.call


async def call_and_die(self: Client, method: str, path: str, resource: str, **options: Any) -> dict[str, Any]:
    """Dies of every write but the Lease's."""
    answer = await _call(self, method, path, resource, **options)
    if method != "GET" and resource != "leases":
        sys.stderr.write(f"killed by {method} {path}\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return answer


if __name__ == "__main__":
    Client.call = call_and_die  # type: ignore[method-assign]
    sys.exit(main())
