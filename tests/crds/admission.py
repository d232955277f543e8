"""What the API server does to an object before it stores it: prune, check the schema, run the rules.

For unit tests only. `tests/apiserver/test_crd.py` sends the same corpus to a real API server.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import celpy
from celpy import celtypes
from jsonschema import Draft4Validator
from modelyard.api.resources import RESOURCES

Schema = dict[str, Any]
# Draft 4 is the one with boolean exclusiveMinimum, as OpenAPI 3.0 has it.
_ENVIRONMENT = celpy.Environment()


@functools.cache
def schema(kind: str = "TrainingJob") -> Schema:
    """The schema of one of the custom resources."""
    return next(resource for resource in RESOURCES if resource.kind == kind).root_schema()


def refusals(new: Any, old: Any = None) -> list[str]:
    """Why the API server would refuse `new` (as an update of `old`, if given); empty if it would not."""
    root = schema(new.get("kind", "TrainingJob") if isinstance(new, dict) else "TrainingJob")
    found = [f'unknown field "{path}"' for path in unknown_fields(new, root)]
    found += [f"{error.json_path}: {error.message}" for error in Draft4Validator(root).iter_errors(new)]
    # As the server: the rules are for objects that have the right shape.
    return found or list(_broken_rules(new, old, root, "$"))


def prune(value: Any, node: Schema) -> Any:
    """`value` without what `node` does not name."""
    if isinstance(value, dict) and not node.get("x-kubernetes-preserve-unknown-fields"):
        fields = {name: _member(node, name) for name in value}
        return {name: prune(value[name], field) for name, field in fields.items() if field is not None}
    if isinstance(value, list) and "items" in node:
        return [prune(item, node["items"]) for item in value]
    return value


def unknown_fields(value: Any, node: Schema, path: str = "") -> Iterator[str]:
    """The paths of what `prune` would drop, as kubectl's strict validation names them."""
    if isinstance(value, dict) and not node.get("x-kubernetes-preserve-unknown-fields"):
        for name, item in value.items():
            here = f"{path}.{name}".removeprefix(".")
            field = _member(node, name)
            if field is None:
                yield here
            elif here != "metadata":
                yield from unknown_fields(item, field, here)
    elif isinstance(value, list) and "items" in node:
        for index, item in enumerate(value):
            yield from unknown_fields(item, node["items"], f"{path}[{index}]")


def _member(node: Schema, name: str) -> Schema | None:
    found: Schema | None = node.get("properties", {}).get(name, node.get("additionalProperties"))
    return found


def _broken_rules(new: Any, old: Any, node: Schema, path: str) -> Iterator[str]:
    if "x-kubernetes-validations" in node:
        told = _told_by_rules(*(json.dumps(part) for part in (new, old, node)))
        yield from (f"{path}{message}" for message in told)
    if isinstance(new, dict):
        for name, value in new.items():
            field = _member(node, name)
            if field is not None:
                before = old.get(name) if isinstance(old, dict) else None
                yield from _broken_rules(value, before, field, f"{path}.{name}")
    elif isinstance(new, list):
        keys = node.get("x-kubernetes-list-map-keys")
        if keys and len({tuple(item[key] for key in keys) for item in new}) < len(new):
            yield f"{path}: Duplicate value"
        for index, value in enumerate(new):
            yield from _broken_rules(value, None, node["items"], f"{path}[{index}]")


@functools.lru_cache(maxsize=4096)
def _told_by_rules(new: str, old: str, node: str) -> tuple[str, ...]:
    """What the rules of this very node say, path within it first. Of JSON, since most of an object is what it was when
    it was last judged, and celpy takes its time.
    """
    return tuple(_run_rules(json.loads(new), json.loads(old), json.loads(node)))


def _run_rules(new: Any, old: Any, node: Schema) -> Iterator[str]:
    for rule in node["x-kubernetes-validations"]:
        if old is None and "oldSelf" in rule["rule"]:
            continue
        given = {"self": to_cel(new, node), "oldSelf": to_cel(old, node)}
        if not _program(rule["rule"]).evaluate(given):
            said = rule.get("messageExpression")
            message = str(_program(said).evaluate(given)) if said else rule["message"]
            yield f"{rule.get('fieldPath', '')}: {message}"


@functools.cache
def _program(rule: str) -> Any:
    return _ENVIRONMENT.program(_ENVIRONMENT.compile(rule))


def to_cel(value: Any, node: Schema) -> Any:
    """`value` with the CEL types of the API server: a number is a double even where it is written 1."""
    if isinstance(value, dict):
        return celtypes.MapType(
            {
                celtypes.StringType(name): to_cel(item, _member(node, name) or {})
                for name, item in value.items()
            }
        )
    if isinstance(value, list):
        return celtypes.ListType([to_cel(item, node.get("items", {})) for item in value])
    if node.get("type") == "number":
        return celtypes.DoubleType(value)
    return celpy.json_to_cel(value)
