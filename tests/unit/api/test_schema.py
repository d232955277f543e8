"""The rewriting from pydantic's JSON Schema to structural schemas."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Optional

import pytest
from modelyard.api.base import ApiModel, Rule
from modelyard.api.schema import UnsupportedSchemaError, structural_schema
from pydantic import Field, create_model


class Inner(ApiModel):
    """What an inner thing
    is."""

    rules: ClassVar[tuple[Rule, ...]] = (Rule(rule="has(self.size)", message="set size", field_path=".size"),)

    size: int | None = Field(None, description="How large.")


class Tree(ApiModel):
    """Contains itself."""

    children: list[Tree] = Field(default_factory=list, max_length=2)


Name = Annotated[str, Field(pattern="^[a-z]+$", max_length=9)]
INNER_RULES = [{"rule": "has(self.size)", "message": "set size", "fieldPath": ".size"}]
INNER_FIELDS = {"size": {"type": "integer", "description": "How large."}}


def field(annotation: Any, default: Any = None, **arguments: Any) -> dict[str, Any]:
    """The structural schema of one field."""
    model = create_model("Model", __base__=ApiModel, some_field=(annotation, Field(default, **arguments)))
    found: dict[str, Any] = structural_schema(model)["properties"]["someField"]
    return found


@pytest.mark.parametrize(
    ("annotation", "arguments", "expected"),
    [
        pytest.param(
            str, {"max_length": 3}, {"type": "string", "maxLength": 3}, id="a string keeps its bound"
        ),
        pytest.param(
            Optional[int],  # noqa: UP045
            {"ge": 1},
            {"type": "integer", "minimum": 1},
            id="optional is absent, never null",
        ),
        pytest.param(
            float,
            {"gt": 0, "lt": 1},
            {
                "type": "number",
                "minimum": 0,
                "exclusiveMinimum": True,
                "maximum": 1,
                "exclusiveMaximum": True,
            },
            id="exclusive bounds are booleans",
        ),
        pytest.param(
            float | None,
            {"gt": 0},
            {"type": "number", "minimum": 0, "exclusiveMinimum": True},
            id="exclusive bounds of an optional",
        ),
        pytest.param(Literal["a"], {}, {"type": "string", "enum": ["a"]}, id="const is an enum of one"),
        pytest.param(
            Literal["a", "b"] | None, {}, {"type": "string", "enum": ["a", "b"]}, id="literals are an enum"
        ),
        pytest.param(Literal[0, 1], {}, {"type": "integer", "enum": [0, 1]}, id="numbers are an enum"),
        pytest.param(
            Name | Annotated[int, Field(ge=0)],
            {},
            {"x-kubernetes-int-or-string": True, "pattern": "^[a-z]+$", "maxLength": 9, "minimum": 0},
            id="int or string keeps the bounds of both",
        ),
        pytest.param(
            int | Literal["auto"],
            {},
            {"x-kubernetes-int-or-string": True, "pattern": "^(auto)$", "maxLength": 4},
            id="int or a word binds only the word",
        ),
        pytest.param(
            dict[str, Any],
            {"max_length": 8},
            {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "maxProperties": 8},
            id="a free-form object keeps unknown fields",
        ),
        pytest.param(
            dict[str, Name],
            {"max_length": 8},
            {
                "type": "object",
                "additionalProperties": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 9},
                "maxProperties": 8,
            },
            id="a map has a schema for its values",
        ),
        pytest.param(
            list[int],
            {"max_length": 2},
            {
                "type": "array",
                "items": {"type": "integer"},
                "maxItems": 2,
                "x-kubernetes-list-type": "atomic",
            },
            id="a list says that it is atomic",
        ),
        pytest.param(
            list[Inner],
            {"max_length": 2, "json_schema_extra": {"list_map_keys": ["size"]}},
            {
                "type": "array",
                "items": {
                    "type": "object",
                    "description": "What an inner thing is.",
                    "properties": INNER_FIELDS,
                    "x-kubernetes-validations": INNER_RULES,
                },
                "maxItems": 2,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["size"],
            },
            id="a list of objects is a map by its keys, and references are inlined",
        ),
        pytest.param(
            Inner | None,
            {"description": "Here."},
            {
                "type": "object",
                "description": "What an inner thing is. Here.",
                "properties": INNER_FIELDS,
                "x-kubernetes-validations": INNER_RULES,
            },
            id="a model brings its docstring and its rules",
        ),
    ],
)
def test_rewrites(annotation: Any, arguments: dict[str, Any], expected: dict[str, Any]) -> None:
    assert field(annotation, **arguments) == expected


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (int | bool, "is a union; a CRD knows int|str only"),
        (Inner | Name, "is a union; a CRD knows int|str only"),
        (tuple[int, str], "prefixItems can't be said in a CRD"),
        (set[int], "uniqueItems can't be said in a CRD"),
        (Any, "a CRD has no counterpart"),
        (Tree, "Tree contains itself"),
    ],
)
def test_refuses_what_a_crd_cannot_say_and_names_the_field(annotation: Any, message: str) -> None:
    with pytest.raises(UnsupportedSchemaError) as refused:
        field(annotation)
    assert str(refused.value).startswith("Model.someField")
    assert message in str(refused.value)


def test_a_field_without_default_is_required() -> None:
    assert structural_schema(create_model("M", __base__=ApiModel, a=(int, ...), b=(int, 1)))["required"] == [
        "a"
    ]


@pytest.mark.parametrize(
    ("default", "description", "expected"),
    [
        (32, "How many.", "How many. Default: 32."),
        (True, "Whether.", "Whether. Default: true."),
        (1, "How many. Default: the profile's.", "How many. Default: the profile's."),
        (None, "How many.", "How many."),
    ],
)
def test_a_default_is_told_but_not_stored(default: Any, description: str, expected: str) -> None:
    assert field(int | None, default, description=description) == {"type": "integer", "description": expected}


def test_a_rule_is_inherited() -> None:
    outer = create_model("Outer", __base__=Inner)
    assert structural_schema(outer)["x-kubernetes-validations"] == INNER_RULES
