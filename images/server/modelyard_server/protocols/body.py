"""What requests are made of: what isn't known is refused by its name, and of what is wrong little is told.

pydantic tells of every error that it finds, half a kilobyte each, and a body of a megabyte may have hundreds of
thousands. So a list ends with its first error, and of unknown keys only one is looked at.
"""

from __future__ import annotations

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
        said = {name: told for name, told in value.items() if not cls._asks_nothing(name, told)}
        unknown = next((name for name in said if name not in cls.model_fields), None)
        return {name: told for name, told in said.items() if name in cls.model_fields or name == unknown}

    @classmethod
    def _asks_nothing(cls, name: str, told: Any) -> bool:
        """Clients send null, or the default, for what isn't there or wanted."""
        if told is None:
            return bool(cls.neutral) and not (
                name in cls.model_fields and cls.model_fields[name].is_required()
            )
        return any(told == n and type(told) in (type(n), float) for n in cls.neutral.get(name, ()))
