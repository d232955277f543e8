"""What requests are made of: what isn't known is refused by its name, and of what is wrong little is told.

pydantic tells of every error that it finds, half a kilobyte each, and a body of a megabyte may have hundreds of
thousands. So a list ends with its first error, and of unknown keys one is told: the first that asks for something.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_ROWS = 2048  # of any list in a request, texts among them, as OpenAI has it

Item = TypeVar("Item")
Several = Annotated[list[Item], Field(max_length=MAX_ROWS, fail_fast=True)]


class Strict(BaseModel):
    """An object of JSON.

    `neutral` are keys that aren't known, with the values at which they ask for nothing. Where there are some, null
    asks for nothing at any key that need not be there.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _shorten(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        # Clients send null, or the default, for what isn't there or wanted.
        fields, nulls = cls.model_fields, not cls.neutral
        known = {
            name: value[name]
            for name, field in fields.items()
            if name in value and (nulls or value[name] is not None or field.is_required())
        }
        unknown = (
            (name, told)
            for name, told in value.items()
            if (nulls or told is not None) and name not in fields and not cls._is_neutral(name, told)
        )
        return known | dict(itertools.islice(unknown, 1))

    @classmethod
    def _is_neutral(cls, name: str, told: Any) -> bool:
        return any(told == n and type(told) in (type(n), float) for n in cls.neutral.get(name, ()))
