"""The prepare stage from sources to a dataset."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from modelyard.contract.report import PrepareResult
from modelyard_models.failure import Failure
from modelyard_trainer.context import Context
from modelyard_trainer.prepare import dataset
from modelyard_trainer.prepare import main as stage
from modelyard_trainer.prepare.main import prepare
from modelyard_trainer.prepare.tokenizer import train_tokenizer

from tests.unit.trainer.builders import (
    WORDS,
    make_context,
    make_environment,
    make_rows,
    make_run,
    save_weights,
    write_rows,
)

GENERATION = {
    "task": "text-generation",
    "data": {"sources": [{"name": "rows", "uri": "pvc://data/rows.csv"}]},
}


@pytest.fixture
def root(tmp_path: Path, model_folder: Path) -> Path:
    shutil.copytree(model_folder, tmp_path / "sources/pvc/models/base")
    write_rows(tmp_path / "sources/pvc/data/rows.csv", make_rows(100))
    return tmp_path


def with_data(**data: Any) -> dict[str, Any]:
    return {"sources": [{"name": "rows", "uri": "pvc://data/rows.csv"}]} | data


def report_of(ctx: Context, result: PrepareResult) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(
        (ctx.storage / "datasets" / str(result.digest) / "report.json").read_text()
    )
    return report


def examples_of(ctx: Context, result: PrepareResult, split: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for path in sorted((ctx.storage / "datasets" / str(result.digest) / split).glob("*.arrow")):
        rows += pa.ipc.open_file(pa.memory_map(str(path))).read_all().to_pylist()
    return rows


def test_a_csv_becomes_tokenised_splits_with_sorted_labels(root: Path) -> None:
    ctx = make_context(
        root, make_run(data=with_data(split={"validation": 0.1, "test": 0.2, "stratifyBy": "label"}))
    )
    result = prepare(ctx)
    assert (result.outcome, result.rows_in, result.rows_out) == ("succeeded", 100, 100)
    assert result.splits == {"train": 70, "validation": 10, "test": 20}
    report = report_of(ctx, result)
    assert report["labels"] == ["negative", "positive"]
    assert report["splits"]["test"]["labels"] == {"negative": 10, "positive": 10}
    rows = examples_of(ctx, result, "train")
    assert len(rows) == 70 and {r["labels"] for r in rows} == {0, 1}
    assert all(r["input_ids"][0] == 1 and r["input_ids"][-1] == 2 and len(r["input_ids"]) <= 32 for r in rows)
    assert not list((ctx.storage / "datasets").glob(".tmp*")) and not (ctx.run_dir / "prepare").exists()


def test_the_same_inputs_are_found_again_and_give_the_same_digest_elsewhere(
    root: Path, tmp_path: Path
) -> None:
    ctx = make_context(root, make_run())
    first, second = prepare(ctx), prepare(ctx)
    assert not first.cache_hit and second.cache_hit
    assert first.model_copy(update={"cache_hit": True}) == second
    shutil.rmtree(ctx.storage)
    again = prepare(ctx)
    assert again.digest == first.digest and not again.cache_hit


def test_a_dataset_is_bit_identical_when_made_again(root: Path) -> None:
    ctx = make_context(root, make_run(data=with_data(prepare=[{"deduplicate": {}}])))
    folder = ctx.storage / "datasets" / str(prepare(ctx).digest)
    before = {
        p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.suffix in (".arrow", ".gz")
    }
    shutil.rmtree(folder)
    prepare(ctx)
    assert before == {
        p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.suffix in (".arrow", ".gz")
    }


@pytest.mark.parametrize(
    "change",
    [
        {"data": with_data(split={"seed": 1})},
        {"data": with_data(prepare=[{"deduplicate": {}}])},
        {"training__max_length": 16},
        {"task": "text-generation"},
    ],
    ids=["seed", "steps", "maxLength", "task"],
)
def test_whatever_decides_the_contents_changes_the_digest(root: Path, change: dict[str, Any]) -> None:
    assert (
        prepare(make_context(root, make_run())).digest
        != prepare(make_context(root, make_run(**change))).digest
    )


def test_what_does_not_decide_the_contents_keeps_the_digest(root: Path) -> None:
    first = prepare(make_context(root, make_run()))
    shutil.copy(root / "sources/pvc/data/rows.csv", root / "sources/pvc/data/moved.csv")
    data = {"sources": [{"name": "other", "uri": "pvc://data/moved.csv"}], "require": {"minRows": 10}}
    assert (
        prepare(make_context(root, make_run(data=data, training__learning_rate=1.0))).digest == first.digest
    )


@pytest.mark.parametrize("harm", ["shorten", "delete", "unreport"])
def test_a_damaged_dataset_is_made_again(root: Path, harm: str) -> None:
    ctx = make_context(root, make_run())
    first = prepare(ctx)
    shard = next((ctx.storage / "datasets" / str(first.digest) / "train").glob("*.arrow"))
    whole = shard.read_bytes()
    if harm == "shorten":
        shard.write_bytes(whole[:-10])
    elif harm == "delete":
        shard.unlink()
    else:
        (shard.parent.parent / "report.json").write_text("{")
    again = prepare(ctx)
    assert not again.cache_hit and again.digest == first.digest and shard.read_bytes() == whole


def test_leftovers_of_a_killed_try_are_deleted(root: Path) -> None:
    ctx = make_context(root, make_run())
    left = ctx.storage / "datasets" / f".tmp-{ctx.owner}-dead"
    other = ctx.storage / "datasets" / ".tmp-ffffffff-alive"
    left.mkdir(parents=True)
    other.mkdir()
    prepare(ctx)
    assert not left.exists() and other.exists()


def write_formats(folder: Path, rows: list[tuple[str, str]]) -> None:
    folder.mkdir(parents=True)
    lines = "".join(json.dumps({"body": t, "intent": label}) + "\n" for t, label in rows)
    (folder / "a.jsonl").write_text(lines)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    table = pa.table(
        {"body": [t for t, _ in rows], "intent": [label for _, label in rows], "more": [1] * len(rows)}
    )
    pq.write_table(table, folder / "c.parquet")
    (folder / "d.csv").write_text("intent;body\n" + "".join(f"{label};{t}\n" for t, label in rows))
    (folder / "notes.md").write_text("not data")


@pytest.mark.parametrize("name", ["a.jsonl", "b.jsonl.gz", "c.parquet", "d.csv"])
def test_every_format_gives_the_same_rows(root: Path, name: str) -> None:
    write_formats(root / "sources/pvc/data/formats", make_rows(20))
    columns = {"text": "body", "label": "intent"}
    source = {"name": "rows", "uri": f"pvc://data/formats/{name}", "columns": columns}
    ctx = make_context(root, make_run(data={"sources": [source]}))
    write_rows(root / "sources/pvc/data/plain.csv", make_rows(20))
    plain = make_context(root, make_run(data={"sources": [{"name": "rows", "uri": "pvc://data/plain.csv"}]}))
    assert examples_of(ctx, prepare(ctx), "train") == examples_of(plain, prepare(plain), "train")


@pytest.mark.parametrize(("uri", "rows"), [("pvc://data/formats", 80), ("pvc://data/formats/*.jsonl*", 40)])
def test_a_folder_or_a_glob_is_read_in_the_order_of_names(root: Path, uri: str, rows: int) -> None:
    write_formats(root / "sources/pvc/data/formats", make_rows(20))
    source = {"name": "all", "uri": uri, "columns": {"text": "body", "label": "intent"}}
    ctx = make_context(root, make_run(data={"sources": [source], "prepare": [{"deduplicate": {}}]}))
    result = prepare(ctx)
    assert (result.rows_in, result.rows_out) == (rows, 20)
    files = [f["name"] for f in report_of(ctx, result)["sources"][0]["files"]]
    assert files == sorted(files) and not any("notes" in f for f in files)


def test_a_configmap_key_is_a_source(root: Path) -> None:
    write_rows(root / "sources/configmap/small/rows.csv", make_rows(30))
    ctx = make_context(
        root, make_run(data={"sources": [{"name": "rows", "uri": "configmap://small/rows.csv"}]})
    )
    assert prepare(ctx).rows_in == 30


def test_every_removed_row_is_counted_with_its_step_and_reason_and_kept_to_look_at(root: Path) -> None:
    rows = [*make_rows(20), make_rows(20)[3], ("hm", "positive"), ("   ", "positive"), ("no label here", "")]
    rows += [("schÃ¶n und gut und lang genug", "positive"), ("schön und gut und lang genug", "negative")]
    write_rows(root / "sources/pvc/data/rows.csv", rows)
    steps = [
        {"normalize": {}},
        {"filter": {"minCharacters": 4, "maxTokens": 40}},
        {"deduplicate": {"method": "exact"}},
    ]
    ctx = make_context(root, make_run(data=with_data(prepare=steps)))
    result = prepare(ctx)
    removed = {(r.step, r.reason): r.rows for r in result.removed}
    assert removed == {
        ("read", "emptyText"): 1,
        ("read", "emptyLabel"): 1,
        ("1.filter", "tooFewCharacters"): 1,
        ("2.deduplicate.exact", "duplicate"): 1,
        ("2.deduplicate.exact", "contradiction"): 1,
    }
    assert result.rows_in == 26 and result.rows_out == 21
    report = report_of(ctx, result)
    assert report["changed"] == [{"step": "0.normalize", "rows": 1}]
    folder = ctx.storage / "datasets" / str(result.digest) / "removed"
    kept = {
        name: json.loads(gzip.decompress((folder / f"2.deduplicate.exact.{name}.jsonl.gz").read_bytes()))
        for name in ("duplicate", "contradiction")
    }
    assert kept["duplicate"]["row"] == 21
    assert kept["duplicate"]["first"] == {"source": "rows", "row": 4, "label": "positive"}
    assert kept["contradiction"]["row"] == 26
    assert kept["contradiction"]["first"] == {"source": "rows", "row": 25, "label": "positive"}


def test_after_exact_deduplication_no_text_is_in_two_splits(root: Path) -> None:
    rows = make_rows(30) * 3
    write_rows(root / "sources/pvc/data/rows.csv", rows)
    split = {"validation": 0.3, "test": 0.2}
    leaky = make_context(root, make_run(data=with_data(split=split)))
    clean = make_context(root, make_run(data=with_data(split=split, prepare=[{"deduplicate": {}}])))
    result = prepare(leaky)
    leaks = report_of(leaky, result)["leaks"]
    assert leaks["validation"] > 0
    assert [(w.reason, w.count) for w in result.warnings] == [("LeakedTexts", sum(leaks.values()))]
    assert prepare(leaky).warnings == result.warnings, "a dataset that is found says the same"
    assert report_of(clean, prepare(clean))["leaks"] == {"validation": 0, "test": 0}


def test_a_few_bytes_of_an_older_encoding_cost_no_row_and_are_reported(root: Path) -> None:
    path = write_rows(root / "sources/pvc/data/rows.csv", make_rows(30))
    path.write_bytes(path.read_bytes() + "caf\u00e9 \u2013 a good place,positive\n".encode("cp1252"))
    ctx = make_context(root, make_run())
    result = prepare(ctx)
    assert result.rows_out == 31 and report_of(ctx, result)["sources"][0]["recodedLines"] == 1


def test_labels_that_are_numbers_are_ordered_as_numbers(root: Path) -> None:
    write_rows(root / "sources/pvc/data/rows.csv", [(f"text number {i}", str(i % 11)) for i in range(44)])
    ctx = make_context(root, make_run())
    assert report_of(ctx, prepare(ctx))["labels"] == [str(i) for i in range(11)]


def test_long_texts_are_cut_for_classification_and_counted(root: Path) -> None:
    write_rows(root / "sources/pvc/data/rows.csv", [("fox " * 100, "a"), ("dog", "b")] * 10)
    ctx = make_context(root, make_run())
    result = prepare(ctx)
    about = report_of(ctx, result)["splits"]["train"]
    assert about["length"]["max"] == 32 and about["truncated"] == sum(
        len(r["input_ids"]) == 32 for r in examples_of(ctx, result, "train")
    )


BART = {
    "model_type": "bart", "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": 320,
}  # fmt: skip


def test_a_model_that_classifies_at_the_end_token_needs_as_many_in_each_row(root: Path) -> None:
    assert prepare(make_context(root, make_run(model={"config": BART}))).rows_out == 100
    rows = make_rows(100)
    rows[41] = ("a page with </s> in it", "positive")
    write_rows(root / "sources/pvc/data/rows.csv", rows)
    assert prepare(make_context(root, make_run())).rows_out == 100  # to others it is a token like any
    with pytest.raises(
        Failure, match="source rows, row 42: its tokens hold the model's end token 2 times"
    ) as caught:
        prepare(make_context(root, make_run(model={"config": BART})))
    assert caught.value.reason == "DataInvalid" and not caught.value.temporary


def test_a_tokenizer_that_ends_no_text_is_none_for_a_model_that_classifies_there(root: Path) -> None:
    folder = root / "sources/pvc/models/base"
    shutil.rmtree(folder)
    train_tokenizer([" ".join(WORDS)] * 20, BART, folder, frames=False)
    save_weights(folder, "AutoModelForSequenceClassification")
    with pytest.raises(Failure, match="its tokenizer puts none at the end of a text") as caught:
        prepare(make_context(root, make_run()))
    assert caught.value.reason == "ModelInvalid"


def test_documents_are_packed_into_blocks_with_eos_between_them(root: Path) -> None:
    ctx = make_context(root, make_run(**GENERATION))
    result = prepare(ctx)
    blocks = [r["input_ids"] for r in examples_of(ctx, result, "train")]
    assert all(len(b) == 32 for b in blocks[:-1]) and 2 <= len(blocks[-1]) <= 32
    # The classification tokenizer frames by <s> (1) and </s> (2): one of each per document, none doubled.
    stream = [t for b in blocks for t in b]
    assert stream.count(2) in (result.splits["train"], result.splits["train"] - 1)
    assert "labels" not in examples_of(ctx, result, "train")[0]


def test_a_model_from_config_gets_a_tokenizer_trained_on_the_training_split(root: Path) -> None:
    model = {"config": {"model_type": "llama", "vocab_size": 300, "max_position_embeddings": 64}}
    ctx = make_context(root, make_run(model=model, **GENERATION))
    result = prepare(ctx)
    hub = ctx.storage / "hub" / str(result.model_digest)
    config = json.loads((hub / "config.json").read_text())
    assert (config["vocab_size"], config["pad_token_id"], config["eos_token_id"]) == (300, 0, 2)
    assert max(max(r["input_ids"]) for r in examples_of(ctx, result, "train")) < 300
    again = prepare(ctx)
    assert again.cache_hit and again.model_digest == result.model_digest
    (hub / "tokenizer.json").unlink()
    rebuilt = prepare(ctx)
    assert not rebuilt.cache_hit and (hub / "tokenizer.json").exists()


def test_text_files_have_one_row_a_line(root: Path) -> None:
    (root / "sources/pvc/data/lines.txt").write_text("first line\n\nsecond line\n" * 10)
    data = {"sources": [{"name": "lines", "uri": "pvc://data/lines.txt"}]}
    assert prepare(make_context(root, make_run(task="text-generation", data=data))).rows_in == 20


CASES: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "missing file",
        {"data": {"sources": [{"name": "r", "uri": "pvc://data/row.csv"}]}},
        "SourceNotFound",
        "did you mean 'rows.csv'",
    ),
    (
        "missing claim",
        {"data": {"sources": [{"name": "r", "uri": "pvc://gone/row.csv"}]}},
        "SourceNotFound",
        "gone is not mounted",
    ),
    (
        "missing key",
        {"data": {"sources": [{"name": "r", "uri": "configmap://small/x.csv"}]}},
        "SourceNotFound",
        "no key 'x.csv'",
    ),
    (
        "wrong text column",
        {"data": {"sources": [{"name": "r", "uri": "pvc://data/rows.csv", "columns": {"text": "txt"}}]}},
        "ColumnNotFound",
        "source r, rows.csv: no column 'txt' for the text; found 'text', 'label'; did you mean 'text'? "
        "Set data.sources[].columns.text",
    ),
    (
        "wrong label column",
        {"data": {"sources": [{"name": "r", "uri": "pvc://data/rows.csv", "columns": {"label": "intent"}}]}},
        "ColumnNotFound",
        "data.sources[].columns.label",
    ),
    (
        "unknown format",
        {"data": {"sources": [{"name": "r", "uri": "pvc://data/notes.md"}]}},
        "DataInvalid",
        "data.sources[].format",
    ),
    (
        "too few rows",
        {"data": with_data(require={"minRows": 101})},
        "RequirementNotMet",
        "100 of 100 rows are left",
    ),
    (
        "too many removed",
        {"data": with_data(prepare=[{"filter": {"minCharacters": 45}}], require={"maxRemovedFraction": 0.1})},
        "RequirementNotMet",
        "0.filter (tooFewCharacters",
    ),
    (
        "nothing left",
        {"data": with_data(prepare=[{"filter": {"minCharacters": 1000}}])},
        "DataInvalid",
        "no row is left of 100",
    ),
    (
        "stratify without labels",
        {"task": "text-generation", "data": with_data(split={"stratifyBy": "label"})},
        "DataInvalid",
        "stratifyBy",
    ),
    (
        "tiny stratified split",
        {"data": with_data(split={"validation": 0.01, "stratifyBy": "label"})},
        "DataInvalid",
        "can't hold each",
    ),
    ("missing model", {"model": {"uri": "pvc://models/bse"}}, "ModelNotFound", "it holds 'base/'"),
    ("no model", {"model": {"uri": "pvc://models"}}, "ModelInvalid", "no config.json"),
    (
        "unknown model type",
        {"model": {"config": {"model_type": "brt", "vocab_size": 300}}},
        "ModelInvalid",
        "correct model.config",
    ),
    ("too long", {"training__max_length": 65}, "InvalidArgument", "set maxLength to 64 or less"),
    (
        "tokens before the tokenizer",
        {
            "model": {"config": {"model_type": "bert", "vocab_size": 300}},
            "data": with_data(prepare=[{"filter": {"minTokens": 2}}]),
        },
        "DataInvalid",
        "use minCharacters",
    ),
]


@pytest.mark.parametrize(("change", "reason", "words"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_every_mistake_has_its_reason_and_a_sentence_that_helps(
    root: Path, change: dict[str, Any], reason: str, words: str
) -> None:
    (root / "sources/pvc/data/notes.md").write_text("notes")
    ctx = make_context(root, make_run(**change))
    with pytest.raises(Failure) as caught:
        prepare(ctx)
    assert caught.value.reason == reason and words in caught.value.message
    assert caught.value.exit_code == 2
    assert not list((ctx.storage / "datasets").glob("*")) if (ctx.storage / "datasets").exists() else True


FILES: list[tuple[str, bytes, str]] = [
    ("bad.jsonl", b'{"text": "a", "label": "b"}\n{"text":', "line 2: no JSON"),
    ("list.jsonl", b"[1]\n", "line 1: the file is an array; set data.sources[].format to json"),
    ("number.jsonl", b"1\n", "line 1: no JSON object but a number"),
    ("fields.csv", b"text,label\na,b,c\n", "line 2: 3 fields under 2 columns"),
    ("cyrillic.csv", "text,label\nпривет мир,b\n".encode("cp1251"), "not UTF-8"),
    ("wide.csv", "text,label\na,b\n".encode("utf-16"), "UTF-16"),
    ("empty.csv", b"", "the file is empty"),
    ("broken.csv.gz", gzip.compress(b"text,label\n" * 1000)[:40], "gzip file is damaged"),
    ("fake.parquet", b"PAR1 no", "no parquet file"),
    ("nested.jsonl", b'{"text": {"a": 1}, "label": "b"}\n', "column 'text' holds a dict"),
    ("one.csv", b"text,label\na,x\nb,x\nc,x\n", "the data have only 'x'"),
    ("rare.csv", b"text,label\n" + b"a,x\n" * 9 + b"b,y\n", "'y' has 1; add rows"),
]


@pytest.mark.parametrize(("name", "content", "words"), FILES, ids=[f[0] for f in FILES])
def test_unreadable_data_are_refused_with_file_and_line(
    root: Path, name: str, content: bytes, words: str
) -> None:
    (root / "sources/pvc/data" / name).write_bytes(content)
    split = {"validation": 0.3, "stratifyBy": "label"} if name == "rare.csv" else {}
    data = {"sources": [{"name": "r", "uri": f"pvc://data/{name}"}], "split": split}
    with pytest.raises(Failure) as caught:
        prepare(make_context(root, make_run(data=data)))
    assert caught.value.reason == "DataInvalid" and words in caught.value.message


def test_a_link_out_of_the_claim_is_not_followed(root: Path) -> None:
    secret = write_rows(root / "secret.csv", make_rows(10))
    (root / "sources/pvc/data/link.csv").symlink_to(secret)
    with pytest.raises(Failure, match="SourceNotFound"):
        prepare(make_context(root, make_run(data={"sources": [{"name": "r", "uri": "pvc://data/link.csv"}]})))


def test_a_full_disk_is_called_by_its_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "x.arrow")

    monkeypatch.setattr(dataset, "write_spool", full)
    with pytest.raises(Failure, match="StorageFull") as caught:
        prepare(make_context(root, make_run()))
    assert "enlarge the claim" in caught.value.message


def run_main(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> tuple[int, PrepareResult]:
    for name, value in make_environment(ctx).items():
        monkeypatch.setenv(name, value)
    code = stage.main()
    return code, PrepareResult.model_validate_json((ctx.runtime / "result.json").read_bytes())


def test_the_program_leaves_a_result_and_the_exit_code_of_the_contract(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, result = run_main(make_context(root, make_run()), monkeypatch)
    assert (code, result.outcome, result.rows_out) == (0, "succeeded", 100)
    code, result = run_main(make_context(root, make_run(model__uri="pvc://models/x")), monkeypatch)
    assert (code, result.outcome) == (2, "failed")
    assert result.failure is not None and (result.failure.reason, result.failure.exit_code) == (
        "ModelNotFound",
        2,
    )


def test_a_bug_of_ours_is_reported_and_not_called_the_users(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "split_rows", lambda *_: 1 / 0)
    code, result = run_main(make_context(root, make_run()), monkeypatch)
    assert code == 1 and result.failure is not None and result.failure.reason == "PrepareError"


def test_the_model_of_a_users_own_program_is_not_judged(root: Path) -> None:
    config = root / "sources/pvc/models/base/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 7}))
    with pytest.raises(Failure) as caught:
        prepare(make_context(root, make_run()))
    assert caught.value.reason == "ModelInvalid"
    assert prepare(make_context(root, make_run(builtin=False))).outcome == "succeeded"
