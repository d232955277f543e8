"""URIs, quantities, YAML and conditions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelyard.api.conditions import MESSAGE_LIMIT, Condition, ConditionType, merge
from modelyard.api.trainer import EnvVar
from modelyard.api.values import DATA_SCHEMES, MODEL_SCHEMES, Location, parse_quantity, parse_uri
from modelyard.api.yaml import dump, load, load_all


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("pvc://claim/a/b%20c/", ("pvc", "claim", "a/b c")),
        ("pvc://claim/data/*.csv", ("pvc", "claim", "data/*.csv")),
        ("pvc://claim", ("pvc", "claim", "")),
        ("pvc://claim/what?/part #1/[ab]*.csv", ("pvc", "claim", "what?/part #1/[ab]*.csv")),
        ("pvc://claim/a%3Fb%23c", ("pvc", "claim", "a?b#c")),
        ("pvc://claim/50%", ("pvc", "claim", "50%")),
        ("configmap://name/rows.csv", ("configmap", "name", "rows.csv")),
        ("https://host/a.csv?version=2#top", ("https", "host", "a.csv")),
        ("hf://org/name", ("hf", "org/name", "")),
        ("hf://name", ("hf", "name", "")),
        ("https://host:8443/a.tar", ("https", "host:8443", "a.tar")),
        ("http://host/a.tar", ("https", "host", "a.tar")),
    ],
)
def test_reads_a_uri(uri: str, expected: tuple[str, str, str]) -> None:
    assert parse_uri(uri, (*MODEL_SCHEMES, *DATA_SCHEMES)) == Location(*expected, uri)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("claim/a/b", "must be pvc://claim/path, hf://org/name or https://host/file$"),
        ("pvc://Claim/a", "must name a claim in lower case"),
        ("pvc:///a", "must name a claim"),
        ("pvc://claim/%2e%2e/a", r"must not contain '\.' or"),
        ("hf://a/b/c", "must name a hub repository"),
        ("hf://", "must name a hub repository"),
        ("https://host", "must name a host and a file"),
        ("https://[::1/a", "is no valid address"),
        ("pvc://claim/a%00b", "must not contain control characters"),
        ("ftp://host/a", "https://host/file$"),
        ("bert-base-uncased", r"did you mean hf://bert-base-uncased\?$"),
        ("org/name", r"did you mean hf://org/name\?$"),
        ("/models/base", r"did you mean pvc://claim/models/base\?$"),
        ("./models/base", r"did you mean pvc://claim/models/base\?$"),
        ("base.tar.gz", r"did you mean pvc://claim/base.tar.gz\?$"),
        ("file:///models/base", r"did you mean pvc://claim/models/base\?$"),
        ("PVC://claim/base", r"did you mean pvc://claim/base\?$"),
        ("pvc:claim/base", r"did you mean pvc://claim/base\?$"),
        ("http:/host/base.tar", r"did you mean http://host/base.tar\?$"),
        ("huggingface://org/name", r"did you mean hf://org/name\?$"),
        ("S3://bucket/base", "s3:// is not supported yet: copy the files to a claim"),
        ("", "must be pvc://claim/path, hf://org/name or https://host/file$"),
    ],
)
def test_refuses_a_uri_and_says_what_to_write(uri: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_uri(uri, MODEL_SCHEMES)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("data/x.csv", "must be pvc://claim/path, https://host/file or configmap://name/key; did you mean "
         r"pvc://claim/data/x.csv\?$"),
        ("/data/x.csv", r"did you mean pvc://claim/data/x.csv\?$"),
        ("tweets", r"did you mean pvc://claim/tweets\?$"),
        ("hf://org/data", "configmap://name/key$"),
        ("configmap://name/key?", "must name one key, as configmap://name/key"),
        ("configmap://name/key#part", "must name one key, as configmap://name/key"),
    ],
)  # fmt: skip
def test_refuses_the_address_of_data_and_says_what_was_probably_meant(uri: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_uri(uri, DATA_SCHEMES)


@given(st.one_of(st.text(max_size=60), st.from_regex(r"(pvc|https?|hf|configmap|s3):/{0,3}.{0,30}")))
def test_any_text_is_an_address_or_refused_with_a_sentence(uri: str) -> None:
    for schemes in (DATA_SCHEMES, MODEL_SCHEMES):
        try:
            assert parse_uri(uri, schemes).uri == uri
        except ValueError as error:
            assert repr(uri) in str(error)


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", 0.5), ("2", 2.0), (4, 4.0), ("1Gi", 2.0**30), ("1.5k", 1500.0), ("2E", 2e18)],
)
def test_reads_a_quantity(text: str | int, number: float) -> None:
    assert parse_quantity(text) == number


@pytest.mark.parametrize("text", ["1GB", "", "-1", "Gi", "1 Gi"])
def test_refuses_a_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is not a Kubernetes quantity"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5), ("1E3", 1000.0), ("-.5", -0.5), ("3.", 3.0), ("12", 12),
        ("1.2.3", "1.2.3"), ("e5", "e5"), ("'2e-5'", "2e-5"), ("2026-11-24", "2026-11-24"),
        ("true", True), ("no", "no"), ("~", None), ("'-'", "-"),
    ],
)  # fmt: skip
def test_yaml_means_what_it_means_to_kubectl(text: str, value: Any) -> None:
    read = load(f"a: {text}")["a"]
    assert read == value
    assert type(read) is type(value)


def test_yaml_reads_documents_and_writes_equal_text() -> None:
    assert list(load_all("a: 1\n---\n---\nb: 2\n")) == [{"a": 1}, {"b": 2}]
    assert dump({"b": 2e-5, "a": "é"}) == "a: é\nb: 2.0e-05\n"


def test_a_dump_leaves_out_what_was_never_set() -> None:
    assert EnvVar.model_validate({"name": "A", "secretKeyRef": {"name": "s", "key": "k"}}).dump() == {
        "name": "A",
        "secretKeyRef": {"name": "s", "key": "k"},
    }


THEN, NOW = "2026-01-01T00:00:00Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    old = [
        {"type": "Ready", "status": "False", "reason": "A", "lastTransitionTime": THEN},
        {"type": "Reconciling", "status": "True", "reason": "A", "lastTransitionTime": THEN},
    ]
    new = [
        Condition(type=ConditionType.SUCCEEDED, status="True", reason="Done"),
        Condition(type=ConditionType.READY, status="False", reason="B", message="m" * 2000),
    ]
    merged = merge(old, new, 7, NOW)
    assert [(c["type"], c["lastTransitionTime"], c["observedGeneration"]) for c in merged] == [
        ("Ready", THEN, 7),
        ("Succeeded", "2026-01-02T03:04:05Z", 7),
    ]
    assert len(merged[0]["message"]) == MESSAGE_LIMIT
    assert (
        merge(merged, [new[1].model_copy(update={"status": "True"})], 8, NOW)[0]["lastTransitionTime"] != THEN
    )
