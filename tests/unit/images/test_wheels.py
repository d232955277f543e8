"""Locks are complete and anonymous, and the wheel cache notices what is missing or damaged."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from requirements.lock import NOT_OPENED_ON_CPU
from requirements.wheels import Pin, download, find_missing, identify, read_lock, remove_damaged

LOCKS = sorted((Path(__file__).parents[3] / "requirements").glob("*.txt"))
CONTENT = b"content"
PIN = Pin("some-name", "1.0", frozenset({hashlib.sha256(CONTENT).hexdigest()}))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_with_hashes_and_names_no_index_and_no_path(lock: Path) -> None:
    assert read_lock(lock)
    assert not re.search(r"://|--index-url|--find-links|(^|\s)/", lock.read_text())


def test_a_package_has_one_version_in_all_locks() -> None:
    versions: dict[str, set[str]] = {}
    for lock in LOCKS:
        for pin in read_lock(lock):
            versions.setdefault(pin.name, set()).add(pin.version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize("image", ["trainer", "server"])
def test_the_cpu_lock_is_the_images_without_what_a_cpu_does_not_open(image: str) -> None:
    whole, cpu = (
        {pin.name for pin in read_lock(LOCKS[0].with_name(f"{name}.txt"))} for name in (image, f"{image}-cpu")
    )
    assert whole - cpu == set(NOT_OPENED_ON_CPU)
    assert cpu < whole


@pytest.mark.parametrize("line", ["name==1.0", "name>=1.0 --hash=sha256:aa"])
def test_a_requirement_without_a_pin_or_a_hash_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "lock.txt").write_text(f"{line}\n")
    with pytest.raises(ValueError, match="is not pinned with a hash"):
        read_lock(tmp_path / "lock.txt")


@pytest.mark.parametrize(
    ("file", "name", "version"),
    [
        ("Some_Name-1.0-py3-none-any.whl", "some-name", "1.0"),
        ("some.name-1.0-2-cp311-cp311-linux_x86_64.whl", "some-name", "1.0"),
        ("some-name-1.0.tar.gz", "some-name", "1.0"),
        ("some_name-1.0.zip", "some-name", "1.0"),
    ],
)
def test_a_file_name_tells_the_distribution_and_its_version(file: str, name: str, version: str) -> None:
    assert identify(file) == (name, version)


def test_only_files_of_the_right_version_count_as_there(tmp_path: Path) -> None:
    (tmp_path / "some_name-0.9-py3-none-any.whl").touch()
    assert find_missing([PIN], tmp_path) == [PIN]
    (tmp_path / "some_name-1.0-py3-none-any.whl").touch()
    assert find_missing([PIN], tmp_path) == []


def test_a_truncated_file_is_removed_and_a_whole_one_or_a_strangers_stays(tmp_path: Path) -> None:
    (tmp_path / "some_name-1.0-py3-none-any.whl").write_bytes(CONTENT[:3])
    (tmp_path / "some_name-1.0.tar.gz").write_bytes(CONTENT)
    (tmp_path / "stranger-1.0-py3-none-any.whl").write_bytes(b"x")
    assert remove_damaged([PIN], tmp_path) == ["some_name-1.0-py3-none-any.whl"]
    assert len(list(tmp_path.iterdir())) == 2


def test_an_interrupted_download_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    pip = tmp_path / "pip"
    take_destination = 'while [ "$1" != --dest ]; do shift; done'
    pip.write_text(f'#!/bin/sh\n{take_destination}\nmkdir "$2"; echo half > "$2/some_name-1.0.zip"; exit 1\n')
    pip.chmod(0o755)
    cache = tmp_path / "cache"
    cache.mkdir()
    with pytest.raises(Exception, match="returned non-zero exit status 1"):
        download([PIN], cache, [str(pip)])
    assert list(cache.iterdir()) == []
