"""Value types shared by the kinds: URIs, quantities, names."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from modelyard.api.base import Rule
from modelyard.api.uris import DATA_SCHEMES, MODEL_SCHEMES, NAME_PATTERN, Location, make_rule, parse_uri

__all__ = [
    "DATA_SCHEMES",
    "MODEL_SCHEMES",
    "NAME_PATTERN",
    "QUANTITY_PATTERN",
    "ClaimUri",
    "ColumnName",
    "DataUri",
    "Delimiter",
    "Fraction",
    "Location",
    "ModelUri",
    "ObjectName",
    "Quantity",
    "parse_quantity",
    "parse_uri",
]

QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
ObjectName = Annotated[str, Field(pattern=NAME_PATTERN, min_length=1, max_length=63)]
Quantity = Annotated[str, Field(pattern=QUANTITY_PATTERN, max_length=32)]


def make_name_rules(limit: int, why: str) -> tuple[Rule, Rule]:
    """Rules of metadata.name, at the root of a resource whose pods and Services are named after it.

    Stricter than object names are: it becomes part of a Service's name and of host names. `why` says whose.
    """
    return (
        Rule(
            rule=f"self.metadata.name.size() <= {limit}",
            message=f"metadata.name must have at most {limit} characters: pods are named after it",
        ),
        Rule(
            rule="self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            message=f"metadata.name must be a DNS label that begins with a letter (a-z, 0-9 and '-' only): {why}",
        ),
    )


def _ruled(rule: Rule) -> dict[str, Any]:
    # A rule rather than a pattern: the API server would quote a pattern, and users would read it.
    return {"x-kubernetes-validations": [rule.dump()]}


def _check_uri(schemes: tuple[str, ...]) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(value, str):
            parse_uri(value, schemes)
        return value

    return BeforeValidator(check)


ColumnName = Annotated[str, Field(min_length=1, max_length=256)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
DataUri = Annotated[
    str, Field(max_length=2048, json_schema_extra=_ruled(make_rule(DATA_SCHEMES))), _check_uri(DATA_SCHEMES)
]
ModelUri = Annotated[
    str, Field(max_length=2048, json_schema_extra=_ruled(make_rule(MODEL_SCHEMES))), _check_uri(MODEL_SCHEMES)
]
ClaimUri = Annotated[
    str, Field(max_length=2048, json_schema_extra=_ruled(make_rule(("pvc",)))), _check_uri(("pvc",))
]


def _check_delimiter(value: Any) -> Any:
    if isinstance(value, str) and value != "tab" and (len(value) != 1 or value in '"\r\n'):
        raise ValueError(f"{value!r} must be one character, but no quote and no line end, or the word tab")
    return value


Delimiter = Annotated[
    str,
    Field(
        max_length=3,
        json_schema_extra=_ruled(
            Rule(
                rule="self == 'tab' || (self.size() == 1 && !(self in ['\"', '\\n', '\\r']))",
                message="must be one character, but no quote and no line end, or the word tab",
            )
        ),
    ),
    BeforeValidator(_check_delimiter),
]

_FACTORS = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def parse_quantity(text: str | int | float) -> float:
    """A Kubernetes quantity as a number (cores, bytes, devices). Raises ValueError on other forms."""
    match = re.match(r"^([0-9]+(?:\.[0-9]+)?)([a-zA-Z]*)$", str(text))
    if not match or match[2] not in _FACTORS:
        raise ValueError(f"{text!r} is not a Kubernetes quantity")
    return float(match[1]) * _FACTORS[match[2]]
