"""Whether an object that the server returns still is what was asked for.

The server adds defaults and other fields, writes quantities its own way, and others add entries to lists;
none of that is a difference. What was asked for and is absent or other, is.
"""

from __future__ import annotations

import hashlib
import json
import re
from decimal import Decimal
from typing import Any

# Fields that name an entry of a list, in the order in which they are tried.
_ENTRY_NAMES = ("uid", "name", "mountPath", "containerPort", "port", "key", "type")
_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(m|k|[MGTPE]i?|Ki|)$")
_FACTORS = {
    "": Decimal(1), "m": Decimal("0.001"), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
    "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip


def canonical(value: Any) -> bytes:
    """One spelling of a JSON value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value: Any) -> str:
    """A short content address of a JSON value."""
    return hashlib.sha256(canonical(value)).hexdigest()[:32]


def project(live: Any, wanted: Any) -> Any:
    """What `live` says on everything that `wanted` speaks of; equal to `wanted` where they mean the same."""
    if live == wanted:
        return wanted
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            return wanted if not wanted and live is None else live
        return {k: project(live.get(k), v) for k, v in wanted.items()}
    if isinstance(wanted, list):
        if not isinstance(live, list):
            return wanted if not wanted and live is None else live
        return _project_list(live, wanted)
    if live is None and not wanted:
        return wanted  # the server leaves out false, 0 and ""
    if live != wanted and _same_quantity(live, wanted):
        return wanted
    return live


def differs(live: Any, wanted: Any) -> bool:
    """Whether anything that `wanted` speaks of is otherwise in `live`."""
    return bool(project(live, wanted) != wanted)


def _project_list(live: list[Any], wanted: list[Any]) -> list[Any]:
    if wanted and all(isinstance(item, dict) for item in (*wanted, *live)):
        for name in _ENTRY_NAMES:
            if all(name in item for item in wanted):
                found = {item.get(name): item for item in live}
                return [project(found.get(item[name]), item) for item in wanted]
    if len(live) != len(wanted):
        return live
    return [project(a, b) for a, b in zip(live, wanted, strict=True)]


def _same_quantity(live: Any, wanted: Any) -> bool:
    a, b = _quantity(live), _quantity(wanted)
    return a is not None and a == b


def _quantity(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    match = _QUANTITY.match(str(value))
    return Decimal(match[1]) * _FACTORS[match[2]] if match else None
