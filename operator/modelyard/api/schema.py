"""Structural schemas, as Kubernetes wants them in a CRD, from pydantic models.

Pydantic speaks JSON Schema 2020-12; a CRD takes the structural subset of OpenAPI 3.0. What has no
counterpart there (unions of objects, tuples, sets) is refused with the path of the field, rather than
weakened.

Two decisions of ours: a default is described but not written into the schema, because the API server would
store it into the user's object; and null is not a value, absence is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, core_schema

from modelyard.api.base import ApiModel

Schema = dict[str, Any]

_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "enum")
_KEYWORDS: Mapping[str, tuple[str, ...]] = {
    "string": ("minLength", "maxLength", "pattern", "format", "enum"),
    "integer": _NUMBERS,
    "number": _NUMBERS,
    "boolean": (),
    "array": ("items", "minItems", "maxItems", "list_map_keys"),
    "object": ("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
}
# Said elsewhere (description, default), or true of every object of ours (additionalProperties).
_NOTES = {"type", "title", "description", "default", "x-kubernetes-validations"}


class UnsupportedSchemaError(TypeError):
    """A model says something that a CRD can't. The message begins with the path of the field."""


def structural_schema(model: type[BaseModel], *, describe_defaults: bool = True) -> Schema:
    """The schema of `model` with references inlined, rules attached and docstrings as descriptions.

    `describe_defaults` adds "Default: x." to the description of fields that have one (for what users write).
    Raises UnsupportedSchemaError.
    """
    raw = model.model_json_schema(by_alias=True, mode="validation", schema_generator=_Generator)
    return _Rewriter(raw.pop("$defs", {}), describe_defaults).rewrite(raw, model.__name__)


class _Generator(GenerateJsonSchema):
    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        out = super().model_schema(schema)
        model = schema["cls"]
        if issubclass(model, ApiModel) and model.rules:
            out["x-kubernetes-validations"] = [rule.dump() for rule in model.rules]
        return out

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> dict[str, Any]:
        # Our checks before validation look at values without changing them, so the inner schema holds.
        inner: CoreSchema = schema["schema"]
        return self.generate_inner(inner)


class _Rewriter:
    def __init__(self, definitions: Mapping[str, Schema], describe_defaults: bool) -> None:
        self._definitions = definitions
        self._describe_defaults = describe_defaults
        self._open: list[str] = []

    def rewrite(self, node: Schema, where: str) -> Schema:
        if "$ref" in node:
            return self._inline(node, where)
        if "anyOf" in node:
            return self._union(node, where)
        node = dict(node)
        if "const" in node:
            node["enum"] = [node.pop("const")]
        kind = str(node.get("type"))
        if kind not in _KEYWORDS:
            raise UnsupportedSchemaError(f"{where}: a CRD has no counterpart of {_shown(node)}")
        unknown = sorted(set(node) - set(_KEYWORDS[kind]) - _NOTES)
        if unknown:
            raise UnsupportedSchemaError(
                f"{where}: {', '.join(unknown)} can't be said in a CRD for type {kind}"
            )
        out: Schema = {"type": kind}
        for keyword in _KEYWORDS[kind]:
            if keyword in node:
                out.update(self._keyword(keyword, node[keyword], node, where))
        if kind == "array":
            out.setdefault("x-kubernetes-list-type", "atomic")
        return self._annotate(out, node)

    def _keyword(self, keyword: str, value: Any, node: Schema, where: str) -> Schema:
        match keyword:
            case "exclusiveMinimum":
                return {"minimum": value, keyword: True}
            case "exclusiveMaximum":
                return {"maximum": value, keyword: True}
            case "items":
                return {keyword: self.rewrite(value, f"{where}[]")}
            case "list_map_keys":
                return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(value)}
            case "properties":
                return {keyword: {name: self.rewrite(value[name], f"{where}.{name}") for name in value}}
            case "additionalProperties":
                return self._extra(value, node, where)
            case _:
                return {keyword: value}

    def _extra(self, value: Any, node: Schema, where: str) -> Schema:
        if value is False:
            return {}  # the API server prunes what a schema does not name
        if "properties" in node:
            raise UnsupportedSchemaError(f"{where}: an object has either named or free fields in a CRD")
        if value is True or value == {}:
            return {"x-kubernetes-preserve-unknown-fields": True}
        return {"additionalProperties": self.rewrite(value, f"{where}.*")}

    def _inline(self, node: Schema, where: str) -> Schema:
        name = node["$ref"].removeprefix("#/$defs/")
        if name in self._open:
            raise UnsupportedSchemaError(f"{where}: {name} contains itself; a CRD can't")
        definition = self._definitions[name]
        beside = {k: v for k, v in node.items() if k != "$ref"}
        text = _sentences(definition.get("description"), beside.get("description"))
        self._open.append(name)
        try:
            return self.rewrite({**definition, **beside, "description": text}, where)
        finally:
            self._open.pop()

    def _union(self, node: Schema, where: str) -> Schema:
        beside = {k: v for k, v in node.items() if k != "anyOf"}
        members = [m for m in node["anyOf"] if m.get("type") != "null"]
        if len(members) == 1:
            member = members[0]
            if "$ref" not in member and "anyOf" not in member:
                member = {**member, **beside}
            else:
                member = {**member, **{k: v for k, v in beside.items() if k in ("description", "default")}}
            return self.rewrite(member, where)
        if sorted(str(m.get("type")) for m in members) != ["integer", "string"]:
            raise UnsupportedSchemaError(
                f"{where}: {_shown(node)} is a union; a CRD knows int|str only: use one optional field "
                f"per variant"
            )
        return self._int_or_string(members, beside, where)

    def _int_or_string(self, members: list[Schema], beside: Schema, where: str) -> Schema:
        out: Schema = {"x-kubernetes-int-or-string": True}
        for member in members:
            member = self.rewrite(member, where)
            if "enum" in member:  # an enum would bind both types; a pattern binds strings only
                words = member.pop("enum")
                member["pattern"] = f"^({'|'.join(words)})$"
                member["maxLength"] = max(map(len, words))
            out.update({k: v for k, v in member.items() if k not in ("type", "description")})
        return self._annotate(out, beside)

    def _annotate(self, out: Schema, node: Schema) -> Schema:
        text = _sentences(node.get("description"))
        default = node.get("default")
        if self._describe_defaults and default not in (None, "", [], {}) and "default" not in text.lower():
            text = _sentences(text, f"Default: {_shown(default)}.")
        if text:
            out["description"] = text
        if "x-kubernetes-validations" in node:
            out["x-kubernetes-validations"] = node["x-kubernetes-validations"]
        return out


def _sentences(*texts: str | None) -> str:
    # One paragraph: docstrings are wrapped for the source, not for `kubectl explain`.
    return " ".join(" ".join(text.split()) for text in texts if text)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
