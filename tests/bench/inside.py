"""An operator that asks pods at their addresses, as one inside the cluster does."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from modelyard import assembly
from modelyard.__main__ import main

_reader = assembly._reader


def read_inside(login: Any, client: Any) -> Any:
    """As if the login were that of a pod."""
    return _reader(dataclasses.replace(login, in_cluster=True), client)


if __name__ == "__main__":
    assembly._reader = read_inside
    sys.exit(main())
