"""A linter of structural schemas: what the API server refuses, or can't bound the cost of CEL for, early.

The rules are those of Kubernetes' structural schemas, and ours: everything is bounded and described.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_FORBIDDEN = (
    "$ref", "$defs", "definitions", "const", "discriminator", "prefixItems", "uniqueItems",
    "patternProperties", "oneOf", "anyOf", "allOf", "not", "nullable", "title", "id", "deprecated",
)  # fmt: skip
_LOOK_AROUND = re.compile(r"\(\?(=|!|<=|<!)|\\[1-9]")


def problems(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Each violation below the schema of one field, as `path: what is wrong`; none for a clean schema."""
    kind = schema.get("type")
    free = schema.get("x-kubernetes-preserve-unknown-fields", False)
    either = schema.get("x-kubernetes-int-or-string", False)
    for keyword in _FORBIDDEN:
        if keyword in schema:
            yield f"{path}: {keyword} is not allowed in a structural schema"
    if not schema.get("description"):
        yield f"{path}: has no description"
    if "default" in schema and path != ".status":
        yield f"{path}: a default would be stored in users' objects"
    if either == (kind is not None):
        yield f"{path}: needs exactly one of type and x-kubernetes-int-or-string"
    if kind == "string" or either:
        yield from _string_problems(schema, path)
    elif kind == "array":
        yield from _array_problems(schema, path)
    elif kind == "object":
        yield from _object_problems(schema, path, free)
    for rule in schema.get("x-kubernetes-validations", ()):
        if not rule.get("message"):
            yield f"{path}: the rule {rule.get('rule')!r} has no message"


def _string_problems(schema: dict[str, Any], path: str) -> Iterator[str]:
    if not ({"maxLength", "enum"} & set(schema)):
        yield f"{path}: a string needs maxLength or enum"
    pattern = schema.get("pattern")
    if pattern is not None:
        if not (pattern.startswith("^") and pattern.endswith("$")):
            yield f"{path}: the pattern {pattern!r} is not anchored at both ends"
        if _LOOK_AROUND.search(pattern):
            yield f"{path}: the pattern {pattern!r} needs more than RE2"


def _array_problems(schema: dict[str, Any], path: str) -> Iterator[str]:
    items = schema.get("items")
    if "maxItems" not in schema:
        yield f"{path}: a list needs maxItems"
    if items is None:
        yield f"{path}: a list needs items"
        return
    kind = schema.get("x-kubernetes-list-type")
    if kind not in ("atomic", "map", "set"):
        yield f"{path}: a list says x-kubernetes-list-type"
    for key in schema.get("x-kubernetes-list-map-keys", () if kind != "map" else (None,)):
        if key not in items.get("properties", {}) or key not in items.get("required", ()):
            yield f"{path}: the list-map key {key} must be a required field of the items"
    yield from problems({"description": "of the list", **items}, f"{path}[]")


def _object_problems(schema: dict[str, Any], path: str, free: bool) -> Iterator[str]:
    properties, values = schema.get("properties"), schema.get("additionalProperties")
    if sum((properties is not None, values is not None, free)) > 1:
        yield f"{path}: properties, additionalProperties and preserve-unknown-fields exclude each other"
    if properties is None and values is None and not free:
        yield f"{path}: an object needs properties, values or preserve-unknown-fields"
    if free and path in ("", ".spec", ".status"):
        yield f"{path}: must name its fields"
    if (values is not None or free) and "maxProperties" not in schema:
        yield f"{path}: a map needs maxProperties"
    if isinstance(values, dict):
        yield from problems({"description": "of the map", **values}, f"{path}.*")
    elif values is not None:
        yield f"{path}: additionalProperties must be a schema"
    for name in schema.get("required", ()):
        if name not in (properties or {}):
            yield f"{path}: requires {name}, which it does not have"
    for name, field in (properties or {}).items():
        yield from problems(field, f"{path}.{name}")
