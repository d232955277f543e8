"""Values that pods tell of themselves: they are made to fit their own schema instead of being refused.

A pod runs anything, and whatever it says has to become a status that the API server takes. So the bounds of
the CRD's schema are kept here, for every model at once, rather than at each place that reads a report.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from modelyard.api.base import ApiModel
from modelyard.api.schema import Schema, structural_schema

# Integers up to here are exact also where JSON numbers are doubles.
LARGEST = 2**53 - 1
# A CRD can't bound the names in a map.
KEY_LIMIT = 64

Count = Annotated[int, Field(ge=0, le=LARGEST)]

_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_LINE_END = re.compile(r"\r\n?")
# Control characters, halves of surrogate pairs, and what turns the direction of writing in a terminal.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Bounded(ApiModel):
    """A value with words and numbers of pods.

    What is too long is cut, what is too large or too small becomes the bound, numbers that aren't finite are
    left out. Everything else that is wrong is refused, as in any model.
    """

    @model_validator(mode="before")
    @classmethod
    def _fit(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        nodes = _nodes_of(cls)
        return {name: fit(value, nodes[name]) if name in nodes else value for name, value in data.items()}

    def changed(self, **fields: Any) -> Self:
        """A copy with other values, which are made to fit, too (those of `model_copy` aren't looked at)."""
        return type(self)(**{**dict(self), **fields})


def fit(value: Any, node: Schema) -> Any:
    """`value` within the bounds of a schema's node; None where nothing of it has a place there.

    Objects with fields of their own are left to their own models.
    """
    if isinstance(value, str):
        return shorten(clean(value), node["maxLength"]) if "maxLength" in node else value
    if isinstance(value, bool):
        return value
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, int | float):
        return _clamp(value, node)
    if isinstance(value, list | tuple) and "items" in node:
        fitted = [fit(item, node["items"]) for item in value[: node["maxItems"]]]
        return [item for item in fitted if item is not None]
    if isinstance(value, Mapping) and "additionalProperties" in node:
        return _fit_map(value, node)
    return value


def clean(text: str) -> str:
    """`text` as a terminal may show it: no control characters but tabs and line ends."""
    return _UNPRINTABLE.sub("\ufffd", _LINE_END.sub("\n", _ESCAPE.sub("", text)))


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters and twice as many bytes; the last one says that there were more."""
    kept = text[:limit].encode()[: 2 * limit].decode(errors="ignore")
    return text if kept == text else f"{kept[: limit - 1]}…"


def _fit_map(value: Mapping[Any, Any], node: Schema) -> dict[str, Any]:
    fitted: dict[str, Any] = {}
    for name, item in value.items():
        if len(fitted) == node["maxProperties"]:
            break
        kept = fit(item, node["additionalProperties"])
        if kept is not None:
            fitted[shorten(clean(str(name)), KEY_LIMIT)] = kept
    return fitted


def _clamp(value: float, node: Schema) -> float | None:
    if node.get("type") == "number" and isinstance(value, int):
        try:
            value = float(value)
        except OverflowError:
            return None
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and value < low:
        return int(low)
    if high is not None and value > high:
        return int(high)
    return value


@functools.cache
def _nodes_of(model: type[ApiModel]) -> dict[str, Schema]:
    """The schema's node of each field, by both its names."""
    properties = structural_schema(model)["properties"]
    nodes = {}
    for name, field in model.model_fields.items():
        alias = field.alias or name
        nodes[name] = nodes[alias] = properties[alias]
    return nodes
