"""The reference page of a kind, generated from its CRD: one table row a field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_BOUNDS = (
    ("minimum", "≥", ">"),
    ("maximum", "≤", "<"),
)


def reference(crd: dict[str, Any]) -> str:
    """Markdown for `crd`'s only version."""
    spec = crd["spec"]
    names = spec["names"]
    version = spec["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    parts = [
        f"# {names['kind']}",
        f"{root['description']}",
        f"`apiVersion: {spec['group']}/{version['name']}`, `kind: {names['kind']}`; "
        f"`kubectl get {names['shortNames'][0]}`. Every field can be read with `kubectl explain "
        f"{names['shortNames'][0]}.spec`. A default is applied by the operator in memory and never "
        f"written into "
        "your object. An absent field is left out; `null` is no value.",
    ]
    for name in ("spec", "status"):
        node = root["properties"][name]
        parts += [f"## {name}", node["description"], *_rules(node), _table(_fields(node, name))]
    rules = [rule["message"] for rule in root["x-kubernetes-validations"]]
    parts += ["## Rules for the whole object", "\n".join(f"- {message}." for message in rules)]
    return "\n\n".join(parts) + "\n"


def _fields(node: dict[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    required = node.get("required", ())
    for name, field in node.get("properties", {}).items():
        here = f"{path}.{name}"
        text = field["description"] + (" **Required.**" if name in required else "")
        rules = [rule["message"] for rule in field.get("x-kubernetes-validations", ())]
        inner, suffix = field, ""
        if field.get("type") == "array":
            inner, suffix = field["items"], "[]"
            if inner.get("properties"):
                text = f"{text} {inner['description']}"
            rules += [rule["message"] for rule in inner.get("x-kubernetes-validations", ())]
        text += "".join(f" Rule: {message}." for message in rules)
        yield here, _kind(field), text
        yield from _fields(inner, here + suffix)


def _kind(field: dict[str, Any]) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "integer or string" + (f" ({_values(field)})" if _values(field) else "")
    kind = str(field["type"])
    if kind == "array":
        return f"list of {_kind(field['items'])}, at most {field['maxItems']}"
    if kind == "object" and "additionalProperties" in field:
        return f"map to {_kind(field['additionalProperties'])}"
    if kind == "object" and field.get("x-kubernetes-preserve-unknown-fields"):
        return "free-form object"
    values = _values(field)
    return f"{kind}: {values}" if values else kind


def _values(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    bounds = [
        f"{strict if field.get('exclusive' + bound.capitalize()) else sign} {field[bound]}"
        for bound, sign, strict in _BOUNDS
        if bound in field
    ]
    return ", ".join(bounds)


def _rules(node: dict[str, Any]) -> list[str]:
    rules = node.get("x-kubernetes-validations", ())
    return ["Rules:\n\n" + "\n".join(f"- {rule['message']}." for rule in rules)] if rules else []


def _table(rows: Iterator[tuple[str, str, str]]) -> str:
    cells = (tuple(cell.replace("|", "\\|") for cell in row) for row in rows)
    return "\n".join(
        ["| Field | Type | Meaning |", "|---|---|---|"]
        + [f"| `{field}` | {kind} | {text} |" for field, kind, text in cells]
    )
