"""Whatever bytes a file holds: rows, or a Failure with a sentence; never anything else."""

from __future__ import annotations

import gzip
import io
import json
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from modelyard_models.failure import Failure
from modelyard_trainer.prepare.formats.columns import Mark
from modelyard_trainer.prepare.spelling import spell_label, spell_text

from tests.unit.trainer.reading import read

MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PIECES = {
    "csv": [
        "text", "label", ",", ";", "|", "\t", '"', '""', "\n", "\r", "\r\n", "sep=;", "a", " ", "\ufeff", "é",
    ],
    "json": [
        *'[]{},:"\\ \n1-e.', '"text"', '"label"', "true", "null", "NaN", '{"text":"a","label":1}', "\\ud83d",
    ],
    "jsonl": [
        *'[]{},:"\\ \n\r1-e.', '"text"', '"label"', "true", '{"text":"a","label":1}\n', "\\u0000",
    ],
    "text": ["a", " ", "\n", "\r", "\u2028", "\ufeff"],
}  # fmt: skip


def check(folder: Path, content: bytes, kind: str, zipped: bool) -> None:
    try:
        for text, label in read(folder, content, kind, zipped=zipped, labelled=kind != "text"):
            assert isinstance(spell_text(text), str)
            assert isinstance(label, Mark) or isinstance(spell_label(label), str)
    except TypeError as error:  # what the caller turns into a Failure
        assert str(error)
    except Failure as failure:
        assert failure.reason in ("DataInvalid", "ColumnNotFound")
        assert failure.message.startswith("source r, rows.") and len(failure.message) > 30


@pytest.mark.parametrize("kind", sorted(PIECES))
@MANY
@given(data=st.data(), zipped=st.booleans())
def test_text_formats_give_rows_or_a_failure(
    tmp_path: Path, kind: str, data: st.DataObject, zipped: bool
) -> None:
    pieces = st.lists(st.sampled_from(PIECES[kind]), max_size=40).map(lambda p: "".join(p).encode())
    content = data.draw(st.one_of(st.binary(max_size=200), pieces))
    header = data.draw(st.sampled_from([b"", b"text,label\n", b'{"text": "a", "label": "b"}\n', b"["]))
    check(tmp_path, header + content, kind, zipped)


@cache
def _parquet() -> bytes:
    sink = io.BytesIO()
    table = pa.table({"text": ["some text", None, "more"] * 40, "label": [0, 1, -1] * 40})
    about = {"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(about)}), sink, row_group_size=50)
    return sink.getvalue()


@MANY
@given(
    place=st.integers(0, 3000),
    noise=st.binary(min_size=1, max_size=30),
    cut=st.integers(0, 40),
    footer=st.booleans(),
)
@example(place=0, noise=b"", cut=0, footer=False)
def test_a_parquet_file_with_changed_bytes_gives_rows_or_a_failure(
    tmp_path: Path, place: int, noise: bytes, cut: int, footer: bool
) -> None:
    data = bytearray(_parquet())
    place = max(0, len(data) - 1 - place) if footer else place % len(data)
    data[place : place + len(noise)] = noise
    check(tmp_path, bytes(data[: len(data) - cut] if not footer else data[cut:]), "parquet", False)


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "text"])
@MANY
@given(place=st.integers(0, 200), noise=st.binary(min_size=1, max_size=8), keep=st.integers(2, 300))
def test_a_damaged_gzip_file_gives_rows_or_a_failure(
    tmp_path: Path, kind: str, place: int, noise: bytes, keep: int
) -> None:
    data = bytearray(gzip.compress(b'text,label\n{"text": "a", "label": 1}\n' * 30))
    place = 2 + place % len(data)
    data[place : place + len(noise)] = noise
    check(tmp_path, bytes(data[:keep]), kind, False)
