"""Reading what pods tell."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from pydantic import ValidationError

from modelyard.contract.base import ContractModel

M = TypeVar("M", bound=ContractModel)

# JSON can spell halves of characters, which no text has.
_HALF = re.compile("[\ud800-\udfff]")


def read(model: type[M], message: Any) -> M | None:
    """A pod's message, as JSON text or parsed; None where it is none of this kind.

    A character that can't be is replaced: it must not cost the rest of the message.
    """
    try:
        parsed = json.loads(message) if isinstance(message, str) else message
        return model.model_validate(_mend(parsed))
    except (ValidationError, ValueError, RecursionError):
        return None


def _mend(value: Any) -> Any:
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value)
    if isinstance(value, list):
        return [_mend(item) for item in value]
    if isinstance(value, dict):
        return {_mend(name): _mend(item) for name, item in value.items()}
    return value
