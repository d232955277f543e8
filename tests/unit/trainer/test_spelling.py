"""One value, one spelling, whatever the format it comes from."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelyard_trainer.prepare.spelling import spell_label, spell_text

from tests.unit.trainer.reading import make_reader, read


@pytest.mark.parametrize(
    ("values", "spelling"),
    [
        ((True, "true", "True", "TRUE", " True "), "true"),
        ((False, "false", "False", "FALSE"), "false"),
        ((1, 1.0, "1", "1.0", "1.000", Decimal("1.00"), b"1"), "1"),
        ((0, -0.0, 0.0, "0.0", "-0.0"), "0"),
        ((-3, -3.0, "-3.0"), "-3"),
        ((0.5, "0.5", Decimal("0.50")), "0.5"),
        ((1e22, "1e+22"), "1e+22"),
        ((None, float("nan"), "", "  ", Decimal("NaN")), ""),
    ],
)
def test_equal_values_make_one_class(values: tuple[Any, ...], spelling: str) -> None:
    assert [spell_label(value) for value in values] == [spelling] * len(values)


@pytest.mark.parametrize(
    "name", ["001", "1.10", "1.50", "1e3", "+1", "01.0", "1.", ".0", "yes", "tRuE", "v1.0", "1,0"]
)
def test_what_can_be_a_name_stays_one(name: str) -> None:
    assert spell_label(name) == name


@pytest.mark.parametrize("text", ["True", "1.0", " two  spaces ", "1.0 star"])
def test_text_is_never_respelt(text: str) -> None:
    assert spell_text(text) == text


@pytest.mark.parametrize("value", [[1], {"a": 1}, b"\xff", object()])
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^(a|bytes) "):
        spell_text(value)


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.decimals(), st.binary()))
def test_a_spelling_is_text_that_can_be_stored_and_is_spelt_so_again(value: Any) -> None:
    try:
        once = spell_label(value)
    except TypeError:
        assert isinstance(value, bytes)
        return
    assert once.encode().decode() == once
    assert spell_label(once) == once


def test_the_same_labels_in_every_format_are_the_same_classes(tmp_path: Path) -> None:
    values: list[Any] = [True, False, 1.0, 0.0, 2, 0.5]
    lines = [json.dumps({"text": "a", "label": v}) for v in values]
    cells = ["True", "False", "1.0", "0.0", "2", "0.5"]
    found = {
        "csv": read(tmp_path, "text,label\n" + "".join(f"a,{cell}\n" for cell in cells), "csv"),
        "jsonl": read(tmp_path, "\n".join(lines), "jsonl"),
        "json": read(tmp_path, "[" + ",".join(lines) + "]", "json"),
        "parquet": [],
    }
    for group in (values[:2], values[2:]):
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.table({"text": ["a"] * len(group), "label": group}), path)
        found["parquet"] += make_reader(path, "parquet").rows()
    labels = {kind: [spell_label(label) for _, label in rows] for kind, rows in found.items()}
    assert list(labels.values()) == [["true", "false", "1", "0", "2", "0.5"]] * 4
