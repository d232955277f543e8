"""Stamps: a cached file counts only while it is what was built."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import cache


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "program").write_bytes(b"a program")
    (tmp_path / "tool").write_bytes(b"a tool")
    cache.write_stamp(tmp_path / "stamp", "key", [tmp_path / "program", tmp_path / "tool"])
    return tmp_path


def test_what_was_built_is_current(built: Path) -> None:
    assert cache.is_current(built / "stamp", "key")


def test_another_key_is_not_current(built: Path) -> None:
    assert not cache.is_current(built / "stamp", "another key")


def test_a_missing_output_is_not_current(built: Path) -> None:
    (built / "tool").unlink()
    assert not cache.is_current(built / "stamp", "key")


@pytest.mark.parametrize("content", [b"", b"a prog", b"a program."])
def test_a_truncated_or_longer_output_is_not_current(built: Path, content: bytes) -> None:
    (built / "program").write_bytes(content)
    assert not cache.is_current(built / "stamp", "key")


def test_a_changed_output_of_the_same_size_is_not_current(built: Path) -> None:
    (built / "program").write_bytes(b"A program")
    assert not cache.is_current(built / "stamp", "key")


@pytest.mark.parametrize("stamp", ["", "{", "[]", "{}", '{"key": "key"}', '{"key": "key", "outputs": {}}'])
def test_a_damaged_stamp_is_not_current(built: Path, stamp: str) -> None:
    (built / "stamp").write_text(stamp)
    assert not cache.is_current(built / "stamp", "key")


def test_without_a_stamp_nothing_is_current(tmp_path: Path) -> None:
    assert not cache.is_current(tmp_path / "stamp", "key")


def test_a_key_depends_on_every_files_content_and_name_and_on_every_setting(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.write_text("1")
    keys = [
        cache.key_of([one], ["a"]),
        cache.key_of([two], ["a"]),
        cache.key_of([one, two], ["a"]),
        cache.key_of([one], ["b"]),
        cache.key_of([one], ["a", "b"]),
        cache.key_of([one], ["ab"]),
    ]
    one.write_text("22")
    keys.append(cache.key_of([one], ["a"]))
    assert len(set(keys)) == len(keys)


def test_a_key_does_not_depend_on_the_order_of_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.write_text("2")
    assert cache.key_of([one, two], []) == cache.key_of([two, one], [])


def test_the_cache_folder_can_be_moved(cache_root: Path) -> None:
    assert cache.root() == cache_root


def test_a_lock_is_free_again_after_its_holder(tmp_path: Path) -> None:
    for _ in range(2):
        with cache.locked(tmp_path / "folder" / "lock", "nothing"):
            assert (tmp_path / "folder" / "lock").exists()
