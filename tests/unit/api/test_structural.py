"""The linter of structural schemas."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard.api.resources import TRAINING_JOB
from modelyard.api.structural import problems

D = {"description": "x"}
NAMED = {"type": "object", **D, "properties": {"name": {"type": "string", "maxLength": 9, **D}}}


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "string", "maxLength": 1}, "has no description"),
        ({"type": "string", **D}, "a string needs maxLength or enum"),
        ({"x-kubernetes-int-or-string": True, **D}, "a string needs maxLength or enum"),
        ({"type": "string", "maxLength": 1, "pattern": "a", **D}, "not anchored"),
        ({"type": "string", "maxLength": 1, "pattern": "^(?=a)$", **D}, "needs more than RE2"),
        ({"type": "string", "maxLength": 1, "default": "a", **D}, "a default would be stored"),
        ({"type": "string", "maxLength": 1, "nullable": True, **D}, "nullable is not allowed"),
        ({**D}, "needs exactly one of type and x-kubernetes-int-or-string"),
        ({"type": "object", **D}, "an object needs properties"),
        ({"type": "object", "additionalProperties": {"type": "integer"}, **D}, "a map needs maxProperties"),
        ({"type": "object", "additionalProperties": True, "maxProperties": 1, **D}, "must be a schema"),
        ({"type": "object", "x-kubernetes-preserve-unknown-fields": True, **D}, "a map needs maxProperties"),
        ({**NAMED, "additionalProperties": {"type": "integer"}, "maxProperties": 1}, "exclude each other"),
        ({**NAMED, "required": ["size"]}, "requires size, which it does not have"),
        ({**NAMED, "x-kubernetes-validations": [{"rule": "true"}]}, "the rule 'true' has no message"),
        ({"type": "array", "maxItems": 1, **D}, "a list needs items"),
        (
            {"type": "array", "items": {"type": "integer"}, "x-kubernetes-list-type": "atomic", **D},
            "a list needs maxItems",
        ),
        (
            {"type": "array", "items": {"type": "integer"}, "maxItems": 1, **D},
            "a list says x-kubernetes-list-type",
        ),
        (
            {
                "type": "array",
                "items": NAMED,
                "maxItems": 1,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                **D,
            },
            "the list-map key name must be a required field",
        ),
        (
            {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 1, **D},
            ".field.*: a string needs maxLength",
        ),
    ],
)
def test_refuses(schema: dict[str, Any], problem: str) -> None:
    found = list(problems(schema, ".field"))
    assert len(found) == 1
    assert problem in found[0]


def test_a_root_may_not_be_free_form() -> None:
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "maxProperties": 1, **D}
    assert list(problems(free, ".spec")) == [".spec: must name its fields"]


def test_our_schema_is_clean_and_stores_one_default_only() -> None:
    fields = TRAINING_JOB.root_schema()["properties"]
    assert [p for name in ("spec", "status") for p in problems(fields[name], f".{name}")] == []
    assert fields["status"]["default"] == {"observedGeneration": -1}
