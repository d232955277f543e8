"""Reading what pods tell."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from modelyard.contract.base import ContractModel

M = TypeVar("M", bound=ContractModel)


def read(model: type[M], message: Any) -> M | None:
    """A pod's message, as JSON text or parsed; None where it is none of this kind.

    Python's parser takes what pydantic's does not, halves of characters and nesting without end among it: the
    one is mended with the status that it goes into, the other is no message.
    """
    try:
        return model.model_validate(json.loads(message) if isinstance(message, str) else message)
    except (ValueError, RecursionError):  # pydantic's ValidationError is a ValueError
        return None
