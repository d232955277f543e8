"""How many accelerators a pod has, whole ones or slices of one."""

from __future__ import annotations

import re

from modelyard.api.trainer import Resources
from modelyard.api.values import parse_quantity

# MIG's, and those of a device that pods take turns at.
_SLICE = re.compile(r"[^/]+/(mig-.+|gpu\.shared)")


def count_accelerators(resources: Resources) -> int:
    """Devices that the pod's processes can work on together: all whole ones, of any vendor (`nvidia.com/gpu`,
    `amd.com/gpu` …). Slices are one, however many: a process sees one of them, and nothing connects them.
    """
    amounts = {name: int(parse_quantity(amount)) for name, amount in resources.limits.items()}
    whole = sum(amount for name, amount in amounts.items() if name.endswith("/gpu"))
    return whole or int(any(amount for name, amount in amounts.items() if _SLICE.fullmatch(name)))
