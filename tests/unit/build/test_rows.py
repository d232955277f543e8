"""What is measured on: the validation split as the trainer wrote it, the user's texts, or our own."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelyard_build.rows import Rows, find_rows, read_split
from modelyard_build.texts import TEXTS
from modelyard_models.failure import Failure
from modelyard_trainer.prepare.shards import ShardWriter

from tests.unit.build.builders import make_settings


def write_split(
    folder: Path, batches: list[list[list[int]]], labels: list[list[int]] | None, shards: int = 1
) -> None:
    """A split as the trainer writes it; `shards`: batches for each file."""
    writer = ShardWriter(folder / "validation", labelled=labels is not None)
    for index, batch in enumerate(batches):
        writer.write(batch, labels[index] if labels is not None else None)
        if (index + 1) % shards == 0:
            writer.close()
    writer.close()
    (folder / "report.json").write_text(json.dumps({"labels": ["a", "b", "c"] if labels is not None else []}))


def read_all(folder: Path) -> list[tuple[list[int], int]]:
    """By the other library: all rows and labels."""
    found: list[tuple[list[int], int]] = []
    for path in sorted((folder / "validation").glob("*.arrow")):
        table = pa.ipc.open_file(str(path)).read_all()
        found += zip(table["input_ids"].to_pylist(), table["labels"].to_pylist(), strict=True)
    return found


row = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=9)
labelled = st.lists(
    st.lists(st.tuples(row, st.integers(0, 2)), min_size=1, max_size=7), min_size=1, max_size=5
)


@settings(deadline=None)
@given(batches=labelled, shards=st.integers(1, 3))
def test_rows_and_labels_are_read_as_arrow_reads_them(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[list[int], int]]], shards: int
) -> None:
    folder = tmp_path_factory.mktemp("data")
    write_split(
        folder, [[ids for ids, _ in b] for b in batches], [[label for _, label in b] for b in batches], shards
    )
    found = read_split(folder)
    assert found is not None and found.ids is not None and found.labels is not None
    assert found.names == ["a", "b", "c"] and found.split == "validation"
    assert sorted(zip(found.ids, found.labels, strict=True)) == sorted(read_all(folder))


def test_the_choice_of_rows_is_always_the_same_and_no_row_is_taken_twice(tmp_path: Path) -> None:
    write_split(tmp_path, [[[i] for i in range(500)]], [[i % 3 for i in range(500)]])
    first, again = read_split(tmp_path, most=100), read_split(tmp_path, most=100)
    assert first == again and first is not None and first.ids is not None and first.labels is not None
    assert len({ids[0] for ids in first.ids}) == 100
    assert max(ids[0] for ids in first.ids) > 400  # not the first ones
    assert first.labels == [ids[0] % 3 for ids in first.ids]


def test_rows_without_labels_have_none(tmp_path: Path) -> None:
    write_split(tmp_path, [[[1, 2], [3]]], None)
    found = read_split(tmp_path)
    assert found is not None and found.labels is None and found.names is None


def test_a_split_that_is_not_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"labels": []}')
    assert read_split(tmp_path) is None
    assert read_split(tmp_path / "nowhere") is None


def test_a_torn_shard_is_named(tmp_path: Path) -> None:
    write_split(tmp_path, [[[1, 2], [3]]], [[0, 1]])
    shard = tmp_path / "validation" / "shard-00000.arrow"
    shard.write_bytes(shard.read_bytes()[:300])
    with pytest.raises(Failure) as caught:
        read_split(tmp_path)
    assert caught.value.reason == "DatasetInvalid" and not caught.value.temporary


@pytest.mark.parametrize("where", ["storage", "sources"])
def test_the_dataset_is_found_in_our_storage_and_on_another_claim(tmp_path: Path, where: str) -> None:
    claim = "store" if where == "storage" else "other"
    folder = tmp_path / ("storage" if where == "storage" else "sources/pvc/other") / "datasets" / "d"
    write_split(folder, [[[5, 6]]], [[1]])
    found = find_rows(make_settings(tmp_path, dataset=f"pvc://{claim}/datasets/d"))
    assert found == Rows("validation", ids=[[5, 6]], labels=[1], names=["a", "b", "c"])


def test_without_data_the_users_texts_are_taken_and_without_those_our_own(tmp_path: Path) -> None:
    assert find_rows(make_settings(tmp_path, texts=["mine"])) == Rows("texts", texts=["mine"])
    assert find_rows(make_settings(tmp_path)) == Rows("texts", texts=list(TEXTS))
    gone = make_settings(tmp_path, dataset="pvc://store/datasets/gone", texts=["mine"])
    assert find_rows(gone) == Rows("texts", texts=["mine"])


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    for rows in (Rows("texts", texts=["ünï"]), Rows("validation", ids=[[1]], labels=[0], names=["a"])):
        rows.write(tmp_path / "rows.json")
        assert Rows.read(tmp_path / "rows.json") == rows


def test_rows_without_tokens_are_left_out_with_their_labels(tmp_path: Path) -> None:
    write_split(tmp_path, [[[], [1, 2], []], [[3]]], [[0, 1, 0], [2]])
    found = read_split(tmp_path)
    assert found is not None and found.ids is not None and found.labels is not None
    assert sorted(zip(found.ids, found.labels, strict=True)) == [([1, 2], 1), ([3], 2)]


def test_of_a_large_split_no_more_is_held_than_is_taken(tmp_path: Path) -> None:
    rows = [[number] * 100 for number in range(2_000)]
    write_split(tmp_path, [rows] * 20, None)
    tracemalloc.start()
    try:
        found = read_split(tmp_path, most=10)
        assert found is not None and found.ids is not None and len(found.ids) == 10
        # All of it are 16 MB, its rows' lengths 0.2 MB, and a batch 0.8 MB.
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
