"""The base of every API model: camelCase outside, snake_case inside, unknown fields refused."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

GROUP = "modelyard.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class Rule(BaseModel):
    """One CEL rule (`x-kubernetes-validations`) of the schema node it is attached to.

    `rule` sees `self` (and `oldSelf` in transition rules); `message` says what to change, and
    `message_expression` (CEL, a string) says it of the value in hand. `field_path` is relative to the node and
    begins with a dot, as `.spec.task`. `reason` is one of Kubernetes' FieldValue* reasons.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    rule: str
    message: str
    message_expression: str | None = None
    field_path: str | None = None
    reason: str | None = None

    def dump(self) -> dict[str, str]:
        """The entry of `x-kubernetes-validations`."""
        return self.model_dump(by_alias=True, exclude_none=True)


class ApiModel(BaseModel):
    """A value of the API. Immutable; equal by value.

    `rules` are what the API server checks on every value of the class beyond its fields. They are not
    repeated in Python: an object that reaches the operator has passed them.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, allow_inf_nan=False
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    def dump(self) -> dict[str, Any]:
        """The value as it stands in YAML: camelCase, without what was never set to anything."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
