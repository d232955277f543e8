"""What the formats make of files as people have them: rows, or a sentence with the line and what to do."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from modelyard_models.failure import Failure
from modelyard_trainer.prepare import decoding
from modelyard_trainer.prepare.formats.columns import Mark

from tests.unit.trainer.reading import make_reader, read

ROWS = [("it arrived", "praise"), ("it is late; very, very late", "complaint"), ("", "x|y")]
QUOTED = ['"it arrived"{d}praise', '"it is late; very, very late"{d}complaint', '""{d}"x|y"']


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("zipped", [False, True])
def test_csv_of_any_line_end_and_delimiter_is_the_same_table(
    tmp_path: Path, end: str, delimiter: str, zipped: bool
) -> None:
    lines = ["text{d}label", *QUOTED]
    content = "".join(line.format(d=delimiter) + end for line in lines)
    assert read(tmp_path, content, "csv", zipped=zipped) == ROWS


CSV: list[tuple[str, str, list[tuple[str, Any]]]] = [
    ("mixed line ends", "text,label\r\na,x\rb,y\nc,z", [("a", "x"), ("b", "y"), ("c", "z")]),
    ("a mark before the header", "\ufefftext,label\na,x\n", [("a", "x")]),
    ("blank lines anywhere", "\n \r\ntext,label\n\na,x\n   \nb,y\n\n", [("a", "x"), ("b", "y")]),
    ("delimiters in the header", 'text,label,"flags (a;b;c;d)"\na,x,1\nb,y,2\n', [("a", "x"), ("b", "y")]),
    ("a quoted header", '"text";"label"\n"a, b";x\n', [("a, b", "x")]),
    ("a line break in the header", 'text,"the\nmood",label\na,1,x\n', [("a", "x")]),
    ("line breaks within quotes", 'text,label\n"one\r\ntwo\rthree",x\nb,y\n',
     [("one\r\ntwo\rthree", "x"), ("b", "y")]),
    ("doubled quotes", 'text,label\n"say ""no""",x\n', [('say "no"', "x")]),
    ("a quote within a field", 'text,label\n5" pipe,x\n', [('5" pipe', "x")]),
    ("Excel's first line", "sep=;\r\ntext;label\r\na,b;x\r\n", [("a,b", "x")]),
    ("Excel's first line in capitals", "SEP=|\ntext|label\na|x\n", [("a", "x")]),
    ("a delimiter that only the first line tells", "sep=^\ntext^label\na|b,c;d^x\n", [("a|b,c;d", "x")]),
    ("a header that another delimiter cuts more often", "text;label;a, b, c, d\nt;x;1, 2, 3, 4\n", [("t", "x")]),
    ("other columns between", "id,label,more,text\n1,x,2,a\n", [("a", "x")]),
    ("a delimiter that stands in every text", "text|label\na, b, c|x\nd, e, f|y\n",
     [("a, b, c", "x"), ("d, e, f", "y")]),
    ("a first line of other lengths", "text;label\na,b,c;x\n", [("a,b,c", "x")]),
    ("a header alone", "text,label\n", []),
    ("a header in the midst", "text,label\na,x\ntext,label\nb,y\n", [("a", "x"), ("text", Mark.HEADER), ("b", "y")]),
    ("words that are columns' names", "text,label,id\ntext,label,1\n", [("text", "label")]),
]  # fmt: skip


def test_a_lone_column_may_hold_its_own_name_as_a_text(tmp_path: Path) -> None:
    assert read(tmp_path, "text\ntext\n", "csv", labelled=False) == [("text", None)]


@pytest.mark.parametrize(("content", "rows"), [c[1:] for c in CSV], ids=[c[0] for c in CSV])
def test_csv_is_read_with(tmp_path: Path, content: str, rows: list[tuple[str, str]]) -> None:
    assert read(tmp_path, content, "csv") == rows


@pytest.mark.parametrize(
    ("delimiter", "content"),
    [("^", "text^label\na,b^x\n"), ("tab", "text\tlabel\na,b\tx\n"), (";", "sep=,\ntext;label\na,b;x\n")],
)
def test_a_delimiter_that_is_named_is_taken(tmp_path: Path, delimiter: str, content: str) -> None:
    assert read(tmp_path, content, "csv", delimiter=delimiter) == [("a,b", "x")]


def test_texts_of_a_single_column_may_hold_any_delimiter_but_one(tmp_path: Path) -> None:
    content = "text\nHello, world; it is\nfine, thanks\nyes\n"
    rows = read(tmp_path, content, "csv", labelled=False)
    assert [text for text, _ in rows] == ["Hello, world; it is", "fine, thanks", "yes"]


def test_the_delimiter_is_guessed_from_the_beginning_of_a_long_file(tmp_path: Path) -> None:
    body = "".join(f'"text, {i}\nand more; much";label {i % 3}\n' for i in range(9000))
    rows = read(tmp_path, "text;label\n" + body, "csv")
    assert len(rows) == 9000 and rows[8999] == ("text, 8999\nand more; much", "label 2")


WRONG_CSV: list[tuple[str, str, str, str]] = [
    ("nothing", "\n\n", "DataInvalid", "the file is empty; the first line must name the columns"),
    ("nothing below sep", "sep=;\n", "DataInvalid", "the file is empty"),
    ("too many fields", "text,label\n\na,b,c\n", "DataInvalid", "line 3: 3 fields under 2 columns"),
    ("too few after a long row", 'text,label\n"a\nb\nc",x\nd\n', "DataInvalid", "line 5: 1 fields under 2"),
    ("an open quote", 'text,label\na,x\n"b,y\nc,z\nd,x\n', "DataInvalid", "line 3: the quoted field that opens here"),
    ("an open quote after a closed one", 'text,label\n"a\nb","x\nc,y\n', "DataInvalid", "line 3: the quoted field"),
    ("an open quote in the last line", 'text,label\n"a\nb","x', "DataInvalid", "line 3: the quoted field that opens"),
    ("an open quote after doubled ones", 'text,label\n"a""\nb""\nc', "DataInvalid", "line 2: the quoted field that"),
    ("an open quote in the header", '"text,label\na,x\n', "DataInvalid", "line 1: the quoted field that opens here"),
    ("a quote that ends too far below", 'text,label\n"a,x\nb,y\n"c" d,z\n', "DataInvalid",
     "line 2: the quoted field that opens here goes on to line 4"),
    ("text after a quote", 'text,label\na,x\n"b" c,y\n', "DataInvalid", "line 3: text after a closing quote"),
    ("text after a second quote", 'text,label\n"a\nb","c" d\n', "DataInvalid", "line 3: text after a closing quote"),
    ("two columns of a name", "text,label,text\na,x,b\n", "DataInvalid", "columns 1 and 3 are both called 'text'"),
    ("another delimiter", "text~label\na~x\n", "ColumnNotFound", "data.sources[].delimiter sets another"),
    ("UTF-16 without a mark", "t\0e\0x\0t\0", "DataInvalid", "byte 2 is NUL"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "reason", "words"), [c[1:] for c in WRONG_CSV], ids=[c[0] for c in WRONG_CSV]
)
def test_csv_is_refused_with_its_line(tmp_path: Path, content: str, reason: str, words: str) -> None:
    with pytest.raises(Failure) as caught:
        read(tmp_path, content, "csv")
    assert caught.value.reason == reason and words in caught.value.message
    assert caught.value.message.startswith("source r, rows.csv")


def test_a_field_or_a_line_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard_trainer.prepare.formats.csv.LONGEST", 1000)
    with pytest.raises(Failure, match="line 3: the field that begins here has more than"):
        read(tmp_path, 'text,label\na,x\n"b' + "c\n" * 900, "csv")
    monkeypatch.setattr(decoding, "LONGEST", 1 << 20)
    with pytest.raises(Failure, match=r"line 2: the line has more than 1 MiB"):
        read(tmp_path, "text\n" + "x" * (3 << 20), "csv", labelled=False)


OBJECTS = [{"text": f"größer {i}", "label": i % 2 == 0, "more": [i, {"a": None}]} for i in range(5)]
PAIRS = [(o["text"], o["label"]) for o in OBJECTS]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("kind", ["array", "lines"])
def test_json_is_an_array_or_objects_one_after_the_other(
    tmp_path: Path, zipped: bool, indent: int | None, kind: str
) -> None:
    if kind == "array":
        content = "\ufeff" + json.dumps(OBJECTS, indent=indent, ensure_ascii=False) + "\n"
    else:
        content = "\r\n".join(json.dumps(o, indent=indent) for o in OBJECTS)
    assert read(tmp_path, content, "json", zipped=zipped) == PAIRS


def test_an_empty_array_has_no_rows_and_one_object_is_a_row(tmp_path: Path) -> None:
    assert read(tmp_path, " [ ]\n", "json") == []
    assert read(tmp_path, json.dumps(OBJECTS[0]), "json") == PAIRS[:1]


def test_json_is_read_alike_wherever_the_file_is_cut_into_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps(
        [{"text": 'ü\\"\r\n\u2028"[}', "label": -12.5e3}, {"text": "\ud83d\ude00", "label": True}], indent=1
    )
    expected = read(tmp_path, text, "json")
    for size in (*range(1, 40), len(text) - 1):
        monkeypatch.setattr(decoding, "_BLOCK", size)
        assert read(tmp_path, text, "json") == expected


def test_lines_end_where_they_end_wherever_the_file_is_cut_into_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.txt"
    path.write_bytes("ä\r\n\r\nb\rc\n\n€\r\nend".encode())
    for size in range(1, 25):
        monkeypatch.setattr(decoding, "_BLOCK", size)
        lines = list(decoding.FileText(path, "r").lines())
        assert lines == ["ä\r\n", "\r\n", "b\r", "c\n", "\n", "€\r\n", "end"]
        with pytest.raises(Failure, match="line 5: entry 2: no JSON"):
            read(tmp_path, '[\r\n{\r\n"a": 1},\r\n\r\n{x}]', "json")


def test_a_long_array_takes_no_more_memory_than_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    row = json.dumps({"text": "word " * 40, "label": "x"})
    with path.open("w") as file:
        file.write("[" + row)
        for _ in range(200_000):
            file.write("," + row)
        file.write("]")
    assert path.stat().st_size > 40 << 20
    tracemalloc.start()
    count = sum(1 for _ in make_reader(path, "json").rows())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 200_001 and peak < 12 << 20


WRONG_JSON: list[tuple[str, str, str, str]] = [
    ("nothing", "  \n", "DataInvalid", "the file is empty; format json is an array of objects"),
    ("no JSON", "text,label\n", "DataInvalid", "line 1: the file begins with 't'; format json is an array"),
    ("a number", "[\n{},\n 5]", "DataInvalid", "entry 2: a number, no object; format json is"),
    ("nested arrays", "[[1, 2]]", "DataInvalid", "entry 1: an array, no object"),
    ("an error", '[\n{"text": "a", "label": "b"},\n{"text": }\n]', "DataInvalid",
     "line 3: entry 2: no JSON (Expecting value)"),
    ("no comma", '[{"text": "a", "label": "b"}\n{"text": "c"}]', "DataInvalid",
     "line 2: entry 1: '{' where ',' or the array's"),
    ("a last comma", '[{"text": "a", "label": "b"},\n]', "DataInvalid", "line 2: entry 2: no JSON (Expecting value)"),
    ("half a file", '[{"text": "a", "label": "b"}, {"text": "c', "DataInvalid",
     "entry 2: no JSON (Unterminated string"),
    ("no end", '[{"text": "a", "label": "b"}', "DataInvalid",
     "entry 1: the file ends within the array; upload it again"),
    ("an end after a comma", '[{"text": "a", "label": "b"},', "DataInvalid",
     "entry 2: the file ends where a value belongs"),
    ("something after it", "[{}]\n[{}]", "DataInvalid", "line 2: entry 1: '[' after the array's end"),
    ("rows within an object", '{"version": 1, "data": [{"text": "a"}]}', "DataInvalid",
     "one object with the members 'version', 'data'; if its rows are in 'data', make that array the whole file"),
    ("a description of the data", '{"features": {"text": 1}, "splits": {}}', "DataInvalid",
     "one object with the members 'features', 'splits', but none called 'text'; if it is no data, set data.sources[]"),
    ("no column", '[{"body": "a"}]', "ColumnNotFound", "no column 'text' for the text; found 'body'"),
    ("too deep", "[" + "[" * 100_000, "DataInvalid", "it is nested too deeply"),
    ("too many digits", '[{"text": ' + "1" * 5000 + "}]", "DataInvalid", "entry 1: no JSON (Exceeds the limit"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "reason", "words"), [c[1:] for c in WRONG_JSON], ids=[c[0] for c in WRONG_JSON]
)
def test_json_is_refused_with_its_line_and_entry(
    tmp_path: Path, content: str, reason: str, words: str
) -> None:
    with pytest.raises(Failure) as caught:
        read(tmp_path, content, "json")
    assert caught.value.reason == reason and words in caught.value.message


def test_an_object_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_BLOCK", 1000)
    monkeypatch.setattr("modelyard_trainer.prepare.formats.json.LONGEST", 5000)
    with pytest.raises(Failure, match="entry 1: the value has not ended after"):
        read(tmp_path, '{"data": [' + '{"text": "a"}, ' * 9000, "json")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('[{"text": "a"}]', "line 2: the file is an array; set data.sources[].format to json"),
        ('"a"', "line 2: no JSON object but a string"),
        ("null", "line 2: no JSON object but null"),
        ("[" * 9999, "the file is an array"),
        ('{"text": ' + "[" * 100_000, "line 2: no JSON (it is nested too deeply)"),
    ],
)
def test_json_lines_are_refused_with_their_line(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(Failure) as caught:
        read(tmp_path, "\n" + line, "jsonl")
    assert words in caught.value.message


def test_bytes_of_an_older_encoding_are_read_and_the_characters_beside_them_stay(tmp_path: Path) -> None:
    mixed = 'text,label\n"größe – '.encode() + b"caf\xe9 \x96" + '",x\nü,y\n'.encode()
    path = tmp_path / "rows.csv"
    path.write_bytes(mixed + b"more,z\n" * 20)
    reader = make_reader(path, "csv")
    assert next(reader.rows()) == ("größe – café –", "x")
    list(reader.rows())
    assert reader.recoded == 1
    array = tmp_path / "rows.json"
    array.write_bytes(b'[{"text": "caf\xe9 \xc3\xbc", "label": "' + b"x" * 99 + b'"}]')
    reader = make_reader(array, "json")
    assert [text for text, _ in reader.rows()] == ["café ü"] and reader.recoded == 1


FEATURES = {"label": {"names": ["sad", "joy", "anger"], "_type": "ClassLabel"}, "text": {"_type": "Value"}}


def write_parquet(path: Path, labels: Any, features: Any = FEATURES, **columns: Any) -> Path:
    texts = [f"text {i}" for i in range(len(labels))]
    table = pa.table({"text": texts, "label": labels} | columns)
    if features is not None:
        about = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": about})
    pq.write_table(table, path)
    return path


def test_the_names_of_classes_in_a_parquet_files_metadata_are_used(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "rows.parquet", pa.array([0, 2, -1, None, 1], pa.int64()))
    labels = [label for _, label in make_reader(path, "parquet").rows()]
    assert labels == ["sad", "anger", Mark.NO_LABEL, None, "joy"]


@pytest.mark.parametrize(
    "features", [None, {}, [], {"label": 5}, {"label": {"_type": "ClassLabel", "names": [1]}}]
)
def test_metadata_that_names_no_classes_leave_the_labels_as_they_are(tmp_path: Path, features: Any) -> None:
    path = write_parquet(tmp_path / "rows.parquet", [0, 2, -1], features)
    assert [label for _, label in make_reader(path, "parquet").rows()] == [0, 2, -1]


def test_a_class_that_the_metadata_do_not_name_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "rows.parquet", [0, 3])
    with pytest.raises(Failure, match="column 'label' holds the class 3, but the file names 3 classes"):
        list(make_reader(path, "parquet").rows())


def test_numbers_of_single_precision_are_the_numbers_that_were_meant(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "rows.parquet", pa.array([0.1, 2.0, None], pa.float32()), None)
    assert [label for _, label in make_reader(path, "parquet").rows()] == [0.1, 2.0, None]


def test_a_damaged_page_is_the_datas_fault_wherever_it_lies(tmp_path: Path) -> None:
    labels = [f"label {i}" for i in range(5000)]
    whole = write_parquet(tmp_path / "whole.parquet", labels, None).read_bytes()
    rng, damaged = random.Random(0), 0  # noqa: S311 - no secret
    path = tmp_path / "rows.parquet"
    for _ in range(60):
        data = bytearray(whole)
        place = rng.randrange(len(data))
        data[place : place + 40] = rng.randbytes(40)
        path.write_bytes(data)
        try:
            list(make_reader(path, "parquet").rows())
        except Failure as failure:
            damaged += 1
            assert failure.reason in ("DataInvalid", "ColumnNotFound") and not failure.temporary
            assert failure.message.startswith("source r, rows.parquet: ")
    assert damaged > 10
