"""The base of every API model: camelCase outside, snake_case inside, unknown fields refused."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

GROUP = "modelyard.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class ApiModel(BaseModel):
    """A value of the API. Immutable; equal by value."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, allow_inf_nan=False
    )

    def dump(self) -> dict[str, Any]:
        """The value as it stands in YAML: camelCase, without what was never set to anything."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Rule(BaseModel):
    """One CEL rule (`x-kubernetes-validations`) of the schema node it is attached to.

    `rule` sees `self` (and `oldSelf` in transition rules); `message` says what to change.
    """

    model_config = ConfigDict(frozen=True)

    rule: str
    message: str
    field_path: str | None = None
