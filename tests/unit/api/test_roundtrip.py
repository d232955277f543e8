"""What the API server stores, the operator reads: random specs by the schema, to the models and back."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator
from modelyard.api.base import ApiModel
from modelyard.api.status import TrainingJobStatus
from modelyard.api.trainingjob import TrainingJobSpec
from modelyard.api.uris import forms
from modelyard.api.values import DATA_SCHEMES, MODEL_SCHEMES

from tests.crds.admission import prune, schema

# Strings that rules bound rather than patterns, by the rule's message.
RULED = {
    forms(DATA_SCHEMES): ["pvc://claim/a?/*#1.csv", "https://host/x.jsonl", "configmap://a/rows.csv"],
    forms(MODEL_SCHEMES): ["pvc://claim/model", "hf://org/name", "http://host:8080/m.tar.gz"],
    forms(("pvc",)): ["pvc://claim", "pvc://claim/folder"],
    "one character, but no quote and no line end, or the word tab": ["tab", "|", "\t"],
}
TIMES = ["2026-11-24T06:33:37Z"]
SCALARS = st.one_of(st.booleans(), st.integers(-5, 5), st.text("ab", max_size=3), st.floats(-1, 1))
FREE = st.dictionaries(
    st.text("abc", min_size=1, max_size=3), st.one_of(SCALARS, st.lists(SCALARS, max_size=2)), max_size=3
)


def values(node: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that the schema `node` allows."""
    if node.get("x-kubernetes-int-or-string"):
        words = st.from_regex(node["pattern"], fullmatch=True).filter(lambda w: len(w) <= node["maxLength"])
        return st.one_of(words, st.integers(node.get("minimum", 0), node.get("maximum", 64)))
    if "enum" in node:
        return st.sampled_from(node["enum"])
    match node["type"]:
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(node.get("minimum", -1), node.get("maximum", 2**40))
        case "number":
            return st.floats(
                node.get("minimum", -1e6),
                node.get("maximum", 1e6),
                exclude_min=node.get("exclusiveMinimum", False),
                exclude_max=node.get("exclusiveMaximum", False),
            )
        case "string":
            return strings(node)
        case "array":
            return st.lists(
                values(node["items"]), min_size=node.get("minItems", 0), max_size=min(2, node["maxItems"])
            )
        case _:
            return objects(node)


def strings(node: dict[str, Any]) -> st.SearchStrategy[str]:
    for rule in node.get("x-kubernetes-validations", ()):
        return st.sampled_from(RULED[rule["message"].removeprefix("must be ")])
    if node.get("format") == "date-time":
        return st.sampled_from(TIMES)
    longest = min(12, node["maxLength"])
    if "pattern" in node:
        return st.from_regex(node["pattern"].removesuffix("$") + r"\Z").filter(
            lambda w: 0 < len(w) <= longest
        )
    return st.text("aZ0 ü{", min_size=node.get("minLength", 0), max_size=longest)


def objects(node: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    if node.get("x-kubernetes-preserve-unknown-fields"):
        return FREE
    if "additionalProperties" in node:
        return st.dictionaries(
            st.text("abc", min_size=1, max_size=3), values(node["additionalProperties"]), max_size=2
        )
    fields = {name: values(field) for name, field in node["properties"].items()}
    required = {name: fields.pop(name) for name in node.get("required", ())}
    return st.fixed_dictionaries(required, optional=fields)


def _comes_back(model: type[ApiModel], name: str, value: dict[str, Any]) -> None:
    node = schema()["properties"][name]
    parsed = model.model_validate(value)
    dumped = parsed.dump()
    assert [error.message for error in Draft4Validator(node).iter_errors(dumped)] == []
    assert prune(dumped, node) == dumped
    assert model.model_validate(dumped) == parsed
    assert dumped.items() >= {k: v for k, v in value.items() if not isinstance(v, dict | list)}.items()


SLOW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@SLOW
@given(st.data())
def test_every_spec_that_the_schema_allows_is_read_and_written_unchanged(data: st.DataObject) -> None:
    _comes_back(TrainingJobSpec, "spec", data.draw(values(schema()["properties"]["spec"])))


@SLOW
@given(st.data())
def test_every_status_that_the_schema_allows_is_read_and_written_unchanged(data: st.DataObject) -> None:
    _comes_back(TrainingJobStatus, "status", data.draw(values(schema()["properties"]["status"])))
