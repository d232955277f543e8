"""Nothing suspicious about the data stays unsaid: each warning, its samples, and the demands on the data."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from modelyard.contract.report import DataWarning, PrepareResult
from modelyard_models.failure import Failure
from modelyard_trainer.context import Context
from modelyard_trainer.prepare import dataset
from modelyard_trainer.prepare.classes import check_classes, sort_labels
from modelyard_trainer.prepare.main import prepare
from modelyard_trainer.prepare.overlaps import find_overlaps
from modelyard_trainer.prepare.rows import Item
from modelyard_trainer.prepare.spool import Spool, write_spool
from modelyard_trainer.prepare.warnings import LIMIT, SAMPLES, Suspicions

from tests.unit.trainer.builders import make_context, make_rows, make_run, write_rows
from tests.unit.trainer.reading import make_reader

Rows = Sequence[tuple[str, str]]
SPLIT = {"validation": 0.2, "test": 0.2, "stratifyBy": "label"}


@pytest.fixture
def root(tmp_path: Path, model_folder: Path) -> Path:
    shutil.copytree(model_folder, tmp_path / "sources/pvc/models/base")
    return tmp_path


def run(root: Path, rows: Rows, **data: Any) -> tuple[PrepareResult, dict[str, Any]]:
    """Prepares these rows; gives the result and the warnings of the report by reason."""
    write_rows(root / "sources/pvc/data/rows.csv", list(rows))
    return go(root, sources=[{"name": "rows", "uri": "pvc://data/rows.csv"}], **data)


OF_MODEL = (
    "NewHead",
    "NewlyInitialized",
    "MadeCausal",
)  # belong to a base model, and so in no dataset's report


def go(root: Path, task: str = "text-classification", **data: Any) -> tuple[PrepareResult, dict[str, Any]]:
    ctx = make_context(root, make_run(task=task, data=data))
    result = prepare(ctx)
    report = read_report(ctx, result)
    of_data = [w for w in result.warnings if w.reason not in OF_MODEL]
    assert [DataWarning.model_validate(w) for w in report["warnings"]] == of_data
    return result, {w["reason"]: w for w in report["warnings"]}


def read_report(ctx: Context, result: PrepareResult) -> dict[str, Any]:
    path = ctx.storage / "datasets" / str(result.digest) / "report.json"
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def test_good_data_has_no_warning(root: Path) -> None:
    assert run(root, make_rows(100), split=SPLIT)[1] == {}


def test_leaks_are_counted_by_split_also_between_validation_and_test(root: Path) -> None:
    rows = make_rows(20) * 3
    result, warnings = run(root, rows, split=SPLIT)
    report = read_report(make_context(root, make_run()), result)
    leaks = report["leaks"]
    found = warnings["LeakedTexts"]
    assert found["count"] == leaks["validation"] + leaks["test"] > 0
    assert f"{leaks['validation']} rows of validation and {leaks['test']} of test" in found["message"]
    sample = found["samples"][0]
    assert sample["split"] == "validation" and sample["first"]["row"] % 20 == sample["row"] % 20
    assert sample["text"] == rows[sample["row"] - 1][0]


def test_overlaps_are_those_that_a_plain_count_finds(tmp_path: Path) -> None:
    rng = np.random.RandomState(5)
    texts = [f"text {i}" for i in rng.randint(0, 300, 2000)]
    labels = rng.randint(0, 2, 2000)
    items = [Item(t, str(label), "s", i) for i, (t, label) in enumerate(zip(texts, labels, strict=True))]
    write_spool(tmp_path / "rows.arrow", iter([items[:700], items[700:]]))
    overlaps = find_overlaps(Spool.open(tmp_path / "rows.arrow"))
    first: dict[str, int] = {}
    expected = [first.setdefault(text, i) for i, text in enumerate(texts)]
    assert overlaps.first.tolist() == expected
    assert overlaps.contradictions(labels).tolist() == [
        i for i, place in enumerate(expected) if labels[i] != labels[place]
    ]
    order = rng.permutation(2000)
    parts = {"train": order[:500], "validation": order[500:900], "test": order[900:]}
    known: set[str] = set()
    for split, rows in parts.items():
        if split != "train":
            wanted = sorted(int(row) for row in rows if texts[row] in known)
            assert overlaps.leaks(parts)[split].tolist() == wanted
        known |= {texts[row] for row in rows}


CONTRARY = [(f"same words {i % 8}", "praise" if i % 2 else "complaint") for i in range(16)]
CONTRARY += [(text, "complaint" if label == "praise" else "praise") for text, label in CONTRARY]


@pytest.mark.parametrize("steps", [[], [{"deduplicate": {}}]], ids=["kept", "deduplicated"])
def test_the_same_text_under_two_labels_is_a_contradiction_and_no_duplicate(
    root: Path, steps: list[Any]
) -> None:
    result, warnings = run(root, CONTRARY, prepare=steps, split={"validation": 0.25})
    assert warnings["Contradictions"]["count"] == 16
    sample = warnings["Contradictions"]["samples"][0]
    assert (sample["row"], sample["label"], sample["first"]) == (
        17, "praise", {"source": "rows", "row": 1, "label": "complaint"}
    )  # fmt: skip
    removed = {r.reason: r.rows for r in result.removed}
    assert removed == ({"duplicate": 8, "contradiction": 16} if steps else {})


def test_classes_that_a_split_lacks_are_told_by_name(root: Path) -> None:
    rows = [*make_rows(24), *((f"only once {i}", f"topic {i}") for i in range(12))]
    _, warnings = run(root, rows, split={"validation": 0.2, "test": 0.2})
    untrained, once = warnings["UntrainedClasses"], warnings["OneRowClasses"]
    assert untrained["count"] + once["count"] == 12
    assert {s["trainRows"] for s in untrained["samples"]} == {0}
    assert untrained["samples"][0]["label"] in untrained["message"]
    assert warnings["UnvalidatedClasses"]["count"] + warnings["UntestedClasses"]["count"] > 12
    assert "stratifyBy" in untrained["message"]


def test_labels_that_look_alike_are_told(root: Path) -> None:
    moods = ["Praise", "praise", "PRAISE ", "very bad", "very  bad", "good", "1.10", "1.1"]
    rows = [(f"order {i} arrived", moods[i % 8]) for i in range(80)]
    _, warnings = run(root, rows, split=SPLIT)
    found = warnings["NearEqualLabels"]
    assert found["count"] == 7 and "'PRAISE' and 'Praise' and 'praise'" in found["message"]
    groups = [set(s["labels"]) for s in found["samples"]]
    assert groups == [{"1.1", "1.10"}, {"PRAISE", "Praise", "praise"}, {"very bad", "very  bad"}]


@pytest.mark.parametrize("unseen", ["\u200b", "\ufeff", "\u00ad", "\u200e"])
def test_labels_that_differ_by_what_nobody_sees_are_told(root: Path, unseen: str) -> None:
    rows = [(f"order {i} arrived", ["good", f"good{unseen}", "bad"][i % 3]) for i in range(60)]
    _, warnings = run(root, rows, split=SPLIT)
    found = warnings["NearEqualLabels"]
    assert found["count"] == 2 and repr(f"good{unseen}") in found["message"]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([f"{i / 7:.3f}" for i in range(24)] * 2, "regression"),
        ([str(i) for i in range(40)], "each of the 40 rows has a label of its own"),
        ([f"id-{i}" for i in range(9)], "each of the 9 rows has a label of its own"),
        (["joy"] * 5, "at least 2 classes"),
    ],
)
def test_what_cannot_be_classes_is_refused_with_what_to_do(labels: list[str], reason: str) -> None:
    names = sort_labels(list(dict.fromkeys(labels)))
    with pytest.raises(Failure) as caught:
        check_classes(names, [labels.count(name) for name in names], Suspicions())
    assert caught.value.reason == "DataInvalid" and reason in caught.value.message
    assert "data.sources[].columns.label" in caught.value.message


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([f"{i / 2}" for i in range(9)] * 3, True),
        ([str(i * 5) for i in range(30)] * 3, True),
        ([str(i + 1990) for i in range(30)] * 3, True),
        ([str(i) for i in range(77)] * 3, False),
        ([str(i + 1) for i in range(77)] * 3, False),
        (["-1", "0", "1"] * 3, False),
        (["0.5", "half"] * 3, False),
        (["a", "b"] * 3, False),
    ],
)
def test_numbers_that_may_be_a_quantity_are_told(labels: list[str], told: bool) -> None:
    names, suspicions = sort_labels(list(dict.fromkeys(labels))), Suspicions()
    check_classes(names, [labels.count(name) for name in names], suspicions)
    assert ([w.reason for w in suspicions.listed()] == ["NumbersAsClasses"]) == told


@pytest.mark.parametrize("labels", [["--1", "2"], ["-", "1"], ["9" * 5000, "1"], ["²", "1"], ["٣", "1"]])
def test_labels_that_only_resemble_numbers_are_sorted_as_text(labels: list[str]) -> None:
    assert sort_labels(labels) == sorted(labels)


def test_rows_that_maxlength_cuts_are_counted_and_shown(root: Path) -> None:
    rows = [(f"{'fox ' * 100}{i}", "a") if i % 4 == 0 else (f"dog {i}", "b") for i in range(40)]
    _, warnings = run(root, rows, split=SPLIT)
    found = warnings["TruncatedRows"]
    assert (
        found["count"] == 10
        and "10 of 40 rows (25.0%) were longer than training.maxLength (32 tokens)" in (found["message"])
    )
    assert len(found["samples"]) == 10 and all(s["row"] % 4 == 1 for s in found["samples"])


def test_columns_that_are_nearly_empty_or_never_change_are_told(root: Path) -> None:
    rows = [(f"text {i}" if i % 3 == 0 else "", "ab"[i % 2]) for i in range(30)]
    _, warnings = run(root, rows, split={"validation": 0.2})
    assert warnings["EmptyColumn"]["count"] == 20
    assert "'text' of source rows in 20 of 30 rows" in warnings["EmptyColumn"]["message"]
    _, warnings = run(root, [("n/a", "ab"[i % 2]) for i in range(30)], split={"validation": 0.2})
    assert warnings["ConstantColumn"]["samples"] == [
        {"source": "rows", "column": "text", "rows": 30, "value": "n/a"}
    ]


def test_one_class_a_source_is_nothing_to_tell(root: Path) -> None:
    sources = []
    for label in ("good", "bad"):
        write_rows(root / f"sources/pvc/data/{label}.csv", [(f"{label} {i}", label) for i in range(20)])
        sources.append({"name": label, "uri": f"pvc://data/{label}.csv"})
    assert go(root, sources=sources, split=SPLIT)[1] == {}


def test_lines_of_another_encoding_and_several_formats_are_told(root: Path) -> None:
    folder = root / "sources/pvc/data/mixed"
    path = write_rows(folder / "a.csv", make_rows(30))
    path.write_bytes(path.read_bytes() + b"caf\xe9 one,positive\ncaf\xe9 two,negative\n")
    (folder / "b.jsonl").write_text(json.dumps({"text": "one more", "label": "positive"}) + "\n")
    _, warnings = go(root, sources=[{"name": "mixed", "uri": "pvc://data/mixed"}], split=SPLIT)
    assert (
        warnings["NotUtf8"]["count"] == 2 and "Windows-1252 (source mixed)" in warnings["NotUtf8"]["message"]
    )
    assert "(mixed: csv, jsonl)" in warnings["SeveralFormats"]["message"]
    assert [s["file"] for s in warnings["SeveralFormats"]["samples"]] == ["mixed/a.csv", "mixed/b.jsonl"]


def test_language_data_are_looked_over_too(root: Path) -> None:
    write_rows(root / "sources/pvc/data/rows.csv", [(f"words and {i % 9}", "") for i in range(90)])
    sources = [{"name": "rows", "uri": "pvc://data/rows.csv"}]
    _, warnings = go(root, "text-generation", sources=sources)
    assert set(warnings) == {"LeakedTexts"} and "label" not in warnings["LeakedTexts"]["samples"][0]


LONG = [(f"{'fox ' * 100}{i}", "ab"[i % 2]) for i in range(10)]
CLEAN = [(f"text number {i}", "ab"[i % 2]) for i in range(90)]


@pytest.mark.parametrize(
    ("require", "rows", "words"),
    [
        ({"noLeakage": True}, [*CLEAN, *CLEAN], "allows none; add the step deduplicate to data.prepare"),
        ({"noContradictions": True}, CONTRARY, "16 rows have a text that stands under another label too (row 17 of "
         "source rows like row 1 of rows"),
        ({"maxTruncatedFraction": 0.05}, [*CLEAN, *LONG], "10 of 100 rows (0.100) are longer than "
         "training.maxLength (32 tokens), data.require.maxTruncatedFraction allows 0.05"),
    ],
)  # fmt: skip
def test_a_demand_that_is_missed_ends_the_job_also_when_the_dataset_is_there(
    root: Path, require: dict[str, Any], rows: Rows, words: str
) -> None:
    for _ in range(2):
        with pytest.raises(Failure) as caught:
            run(root, rows, require=require)
        assert caught.value.reason == "RequirementNotMet" and words in caught.value.message
        run(root, rows)
    assert run(root, CLEAN, require={**require, "noLeakage": True}, split=SPLIT)[1] == {}


def test_contradictions_that_deduplication_removed_count_against_the_demand(root: Path) -> None:
    with pytest.raises(Failure, match="noContradictions"):
        run(root, CONTRARY, prepare=[{"deduplicate": {}}], require={"noContradictions": True})


def test_rows_without_a_label_by_the_files_own_convention_are_removed_with_that_reason(root: Path) -> None:
    about = {"info": {"features": {"label": {"names": ["sad", "joy"], "_type": "ClassLabel"}}}}
    table = pa.table({"text": [f"text {i}" for i in range(30)], "label": [0, 1, -1] * 10})
    (root / "sources/pvc/data").mkdir(parents=True)
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(about)}), root / "sources/pvc/data/a.parquet"
    )
    result, _ = go(root, sources=[{"name": "a", "uri": "pvc://data/a.parquet"}], split=SPLIT)
    assert [(r.step, r.reason, r.rows) for r in result.removed] == [("read", "noLabel", 10)]
    assert read_report(make_context(root, make_run()), result)["labels"] == ["joy", "sad"]


@pytest.mark.parametrize("task", ["text-classification", "text-generation"])
def test_headers_of_joined_files_are_removed_with_that_reason(root: Path, task: str) -> None:
    part = "text,label\n" + "".join(f"text number {i} of many,{'ab'[i % 2]}\n" for i in range(30))
    (root / "sources/pvc/data").mkdir(parents=True)
    (root / "sources/pvc/data/a.csv").write_text(part * 3)
    result, _ = go(root, task=task, sources=[{"name": "a", "uri": "pvc://data/a.csv"}])
    assert ("read", "repeatedHeader", 2) in [(r.step, r.reason, r.rows) for r in result.removed]
    labels = read_report(make_context(root, make_run()), result)["labels"]
    assert labels == (["a", "b"] if task == "text-classification" else [])


def test_a_collector_is_bounded_and_keeps_each_reason_once() -> None:
    suspicions = Suspicions()
    for i in range(LIMIT + 9):
        suspicions.add(f"Reason{i}", "m" * 5000, i, ["s" * 5000, {"deep": "d" * 5000}, *range(99)])
    suspicions.add("Reason0", "again", 7)
    dumped = suspicions.dump()
    assert len(dumped) == LIMIT and dumped[0] == {
        "reason": "Reason0",
        "count": 7,
        "message": "again",
        "samples": [],
    }
    assert len(dumped[1]["message"]) == 600 and len(dumped[1]["samples"]) == SAMPLES
    assert len(dumped[1]["samples"][0]) == len(dumped[1]["samples"][1]["deep"]) == 300
    assert len(json.dumps(dumped)) < 100_000


@pytest.mark.parametrize(
    ("error", "reason", "temporary"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "StorageFull", False),
        (OSError(errno.EIO, "Input/output error", "{storage}/datasets/x"), "StorageError", True),
        (OSError(errno.EIO, "Input/output error", "{sources}/pvc/data/a.csv"), "SourceUnreachable", True),
        (PermissionError(errno.EACCES, "Permission denied", "{sources}/pvc/data"), "SourceForbidden", False),
        (
            OSError(errno.EIO, "Input/output error", "{sources}/pvc/models/base/config.json"),
            "ModelUnreachable",
            True,
        ),
        (
            OSError(errno.EIO, "Input/output error", "{sources}/pvc/models/base2/x.csv"),
            "SourceUnreachable",
            True,
        ),
    ],
)
def test_only_our_own_storages_errors_are_storage_errors(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, reason: str, temporary: bool
) -> None:
    def fail(*_: Any) -> None:
        if error.filename:
            error.filename = error.filename.format(storage=root / "storage", sources=root / "sources")
        raise error

    monkeypatch.setattr(dataset, "write_spool", fail)
    with pytest.raises(Failure) as caught:
        run(root, make_rows(20))
    assert (caught.value.reason, caught.value.temporary) == (reason, temporary)


def test_an_oserror_that_a_library_made_up_is_no_storages(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("Corrupt snappy compressed data")

    monkeypatch.setattr(dataset, "write_spool", fail)
    with pytest.raises(OSError, match="Corrupt snappy"):
        run(root, make_rows(20))


@pytest.mark.parametrize(
    ("url", "reason"), [(None, "SourceUnreachable"), ("https://host/a.csv", "StorageError")]
)
def test_reading_fails_by_where_the_file_lies(
    root: Path, monkeypatch: pytest.MonkeyPatch, url: str | None, reason: str
) -> None:
    reader = make_reader(write_rows(root / "a.csv", make_rows(3)), "csv")

    def fail(*_: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("modelyard_trainer.prepare.formats.csv.read", fail)
    object.__setattr__(reader.file, "url", url)
    with pytest.raises(Failure) as caught:
        list(reader.rows())
    assert caught.value.reason == reason and caught.value.temporary
