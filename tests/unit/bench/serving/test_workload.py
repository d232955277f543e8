"""Texts are real, different, and the seed's; prompts have several lengths."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from tests.bench.serving.workload import ANSWER_TOKENS, PROMPT_WORDS, make_chats, read_texts


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "tweets.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for index in range(200):
            writer.writerow([f"tweet {index}, with a comma\nand {'more ' * (index // 10)}", "a"])
            writer.writerow(["the same again", "b"])
    return path


def test_texts_are_different_and_the_seeds(table: Path) -> None:
    texts = read_texts(table, 100, seed=1)
    assert len(set(texts)) == 100
    assert texts == read_texts(table, 100, seed=1) != read_texts(table, 100, seed=2)
    assert len(read_texts(table, 201)) == 201


def test_their_lengths_are_mixed_as_the_files_are(table: Path) -> None:
    """Not the first so many: a file is often sorted by something."""
    of_all = sorted(map(len, read_texts(table, 201)))
    chosen = sorted(map(len, read_texts(table, 60)))
    assert abs(sum(chosen) / 60 - sum(of_all) / 201) < 15


def test_too_few_texts_are_an_error(table: Path) -> None:
    with pytest.raises(ValueError, match=r"tweets.csv has 201 different texts, 300 are wanted"):
        read_texts(table, 300)


def test_chats_have_every_length_as_often_as_said(table: Path) -> None:
    chats = make_chats(read_texts(table, 50), 1000, seed=4)
    assert chats == make_chats(read_texts(table, 50), 1000, seed=4)
    words = Counter(len(chat["messages"][0]["content"].split()) - 6 for chat in chats)
    most = Counter(chat["max_tokens"] for chat in chats)
    for found, mix in ((words, PROMPT_WORDS), (most, ANSWER_TOKENS)):
        assert found.keys() == {value for value, _ in mix}
        for value, weight in mix:
            assert abs(found[value] / 1000 - weight / sum(w for _, w in mix)) < 0.05
    with pytest.raises(ValueError, match="without a word"):
        make_chats([" "], 1)
