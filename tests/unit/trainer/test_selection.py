"""Which files a source means: files, folders and globs of a claim, and formats that lie side by side."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from modelyard.api.data import DataSource
from modelyard_models.failure import Failure
from modelyard_trainer.prepare.sources import find_source

from tests.unit.trainer.builders import make_context, make_run


def find(root: Path, uri: str, **spec: Any) -> list[tuple[str, str]]:
    """Name and format of the files that the source means."""
    source = DataSource.model_validate({"name": "r", "uri": uri} | spec)
    return [(f.name, f.format) for f in find_source(make_context(root, make_run()), source).files]


def fill(root: Path, *names: str) -> None:
    for name in names:
        path = root / "sources/pvc/data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text,label\n")


NAMES = ("a.csv", "ab.csv", "b1.csv", "b2.csv", "what?.csv", "part #1.csv", "x[1].csv", "s/c.csv", "s/t/d.csv",
         ".hidden.csv", "s/.git/e.csv")  # fmt: skip


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("a.csv", ["a.csv"]),
        ("what?.csv", ["what?.csv"]),
        ("what%3F.csv", ["what?.csv"]),
        ("part #1.csv", ["part #1.csv"]),
        ("part%20%231.csv", ["part #1.csv"]),
        ("x[1].csv", ["x[1].csv"]),
        ("a?.csv", ["ab.csv"]),
        ("b?.csv", ["b1.csv", "b2.csv"]),
        ("b[1-9].csv", ["b1.csv", "b2.csv"]),
        ("b[!1].csv", ["b2.csv"]),
        ("*#*.csv", ["part #1.csv"]),
        ("s", ["s/c.csv", "s/t/d.csv"]),
        ("s/", ["s/c.csv", "s/t/d.csv"]),
        ("s/*.csv", ["s/c.csv"]),
        ("**/d.csv", ["s/t/d.csv"]),
        ("s/**", ["s/c.csv", "s/t/d.csv"]),
        ("s/**/*.csv", ["s/c.csv", "s/t/d.csv"]),
        ("*/c.csv", ["s/c.csv"]),
        (".hidden.csv", [".hidden.csv"]),
        (".h*", [".hidden.csv"]),
        ("[.]hidden.csv", []),
    ],
)
def test_a_path_means_its_files(tmp_path: Path, path: str, names: list[str]) -> None:
    fill(tmp_path, *NAMES)
    if names:
        assert [name for name, _ in find(tmp_path, f"pvc://data/{path}")] == names
    else:
        with pytest.raises(Failure, match="SourceNotFound"):
            find(tmp_path, f"pvc://data/{path}")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("c.csv", "matches no file; did you mean"),
        ("s/cc.csv", "did you mean 'c.csv'?; the folder 's' holds 'c.csv', 't/'"),
        ("s/x**y.csv", "is no valid glob"),
        ("n" * 300, "is no file's name there (File name too long)"),
        ("s/q?.csv", "matches no file"),
    ],
)
def test_a_path_that_means_nothing_is_refused_with_what_is_there(
    tmp_path: Path, path: str, words: str
) -> None:
    fill(tmp_path, *NAMES)
    with pytest.raises(Failure) as caught:
        find(tmp_path, f"pvc://data/{path}")
    assert caught.value.reason == "SourceNotFound" and words in caught.value.message


def test_text_beside_data_of_another_kind_is_refused_unless_the_format_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "d/rows.csv", "d/LICENSE.txt", "d/requirements.txt", "d/README.md")
    with pytest.raises(Failure) as caught:
        find(tmp_path, "pvc://data/d")
    assert caught.value.reason == "DataInvalid"
    assert (
        "pvc://data/d holds text ('d/LICENSE.txt', 'd/requirements.txt') beside csv ('d/rows.csv'), and each line "
        "of text would be a row; set data.sources[].format to csv or text, or name the files by a glob, as *.csv"
    ) in caught.value.message
    assert find(tmp_path, "pvc://data/d", format="csv") == [("d/rows.csv", "csv")]
    assert find(tmp_path, "pvc://data/d/*.csv") == [("d/rows.csv", "csv")]
    assert [kind for _, kind in find(tmp_path, "pvc://data/d", format="text")] == ["text", "text"]
    with pytest.raises(Failure, match="beside csv"):
        find(tmp_path, "pvc://data/d/*[svt]")


@pytest.mark.parametrize(
    ("names", "spec", "chosen"),
    [
        (["a.jsonl", "info.json"], {"format": "jsonl"}, ["a.jsonl"]),
        (["a.json", "b.csv"], {"format": "jsonl"}, ["a.json"]),
        (["a.jsonl", "b.csv"], {"format": "json"}, ["a.jsonl"]),
        (["a.dat", "b.csv"], {"format": "text"}, ["a.dat"]),
        (["a.TSV", "b.csv.gz"], {"format": "csv"}, ["a.TSV", "b.csv.gz"]),
        (["a.parquet", "b.csv"], {}, ["a.parquet", "b.csv"]),
        (["a.txt", "b.txt.gz"], {}, ["a.txt", "b.txt.gz"]),
        (["a.ndjson", "b.json"], {}, ["a.ndjson", "b.json"]),
    ],
)
def test_a_folder_gives_the_files_of_the_format(
    tmp_path: Path, names: list[str], spec: dict[str, Any], chosen: list[str]
) -> None:
    fill(tmp_path, *(f"d/{name}" for name in names))
    assert [name for name, _ in find(tmp_path, "pvc://data/d", **spec)] == [f"d/{name}" for name in chosen]


def test_a_delimiter_that_no_file_has_use_for_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "d/a.jsonl", "e/a.csv", "e/b.jsonl")
    with pytest.raises(Failure, match=r"data.sources\[\].delimiter is for csv, but d/a.jsonl is jsonl"):
        find(tmp_path, "pvc://data/d", delimiter="|")
    assert len(find(tmp_path, "pvc://data/e", delimiter="|")) == 2


@pytest.mark.parametrize(
    ("number", "reason", "temporary"),
    [
        (errno.EIO, "SourceUnreachable", True),
        (errno.ESTALE, "SourceUnreachable", True),
        (errno.EACCES, "SourceForbidden", False),
        (errno.ENOENT, "SourceNotFound", False),
    ],
)
def test_trouble_with_a_sources_bytes_is_the_sources_and_not_our_storages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str, temporary: bool
) -> None:
    fill(tmp_path, "a.csv")

    def refuse(path: Path) -> str:
        raise OSError(number, "trouble", str(path))

    monkeypatch.setattr("modelyard_trainer.prepare.sources.hash_file", refuse)
    with pytest.raises(Failure) as caught:
        find(tmp_path, "pvc://data/a.csv")
    assert (caught.value.reason, caught.value.temporary) == (reason, temporary)
    assert "source r, a.csv" in caught.value.message


def test_a_folder_that_cannot_be_listed_is_not_left_out_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "d/a.csv", "d/closed/b.csv")
    from os import scandir

    def guarded(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", guarded)
    with pytest.raises(Failure, match="SourceForbidden"):
        find(tmp_path, "pvc://data/d")
