"""What a model is measured on: rows of its job's validation split, the user's texts, or texts of our own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from modelyard.contract.layout import REPORT
from modelyard_models.failure import boundary
from modelyard_models.files import read_json, write_json

from modelyard_build.settings import Settings
from modelyard_build.texts import TEXTS

log = logging.getLogger("modelyard.build")

MOST = 2000  # rows
SEED = 0  # of their choice
_SPLIT: Literal["validation"] = "validation"
_MAGIC = 8  # bytes before the stream in a file of Arrow's


@dataclass(frozen=True, slots=True)
class Rows:
    """Either `ids`, each row's tokens, or `texts`. `labels`: each row's class, in the order of the data's `names`."""

    split: Literal["validation", "texts"]
    texts: list[str] | None = None
    ids: list[list[int]] | None = None
    labels: list[int] | None = None
    names: list[str] | None = None

    def write(self, path: Path) -> None:
        """As JSON."""
        write_json(path, {name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def read(cls, path: Path) -> Rows:
        """As it was written."""
        return cls(**read_json(path))


def find_rows(settings: Settings) -> Rows:
    """The best that there is. Rows of a split are chosen at random by a fixed seed, the same for all variants."""
    config = settings.config
    if config.dataset is not None:
        folder, _ = settings.find_claimed(settings.locate(config.dataset))
        if found := read_split(folder):
            return found
        log.warning("%s has no validation rows: agreement is measured on texts", config.dataset)
    return Rows("texts", texts=config.texts or list(TEXTS))


def read_split(folder: Path, most: int = MOST) -> Rows | None:
    """Rows of a prepared dataset's validation split, in the order in which they were drawn; None where it has none."""
    report = read_json(folder / REPORT) or {}
    names = report.get("labels") or None
    shards = sorted((folder / _SPLIT).glob("shard-*.arrow"))
    with boundary(
        "DatasetInvalid", f"{folder.name} can't be read", "delete it, and let its job prepare it anew"
    ):
        # Read twice, as a split may be larger than the memory.
        lengths = [np.diff(batch.offsets) for path in shards for batch in _read_shard(path)]
        full = np.flatnonzero(np.concatenate(lengths)) if lengths else np.zeros(0, np.int64)
        if not len(full):
            return None
        drawn = full[np.random.default_rng(SEED).permutation(len(full))[:most]]
        ids, labels = _take(shards, drawn)
    return Rows(
        _SPLIT,
        ids=[ids[i] for i in drawn],
        labels=[labels[i] for i in drawn] if names and labels else None,
        names=names,
    )


def _take(shards: list[Path], drawn: Any) -> tuple[dict[int, list[int]], dict[int, int]]:
    """The rows of these numbers, and their labels, of which there may be none."""
    wanted, begin = np.sort(drawn), 0
    ids: dict[int, list[int]] = {}
    labels: dict[int, int] = {}
    for batch in (batch for path in shards for batch in _read_shard(path)):
        end = begin + len(batch.offsets) - 1
        for number in wanted[np.searchsorted(wanted, begin) : np.searchsorted(wanted, end)].tolist():
            low, high = batch.offsets[number - begin : number - begin + 2]
            ids[number] = batch.tokens[low:high].tolist()
            if len(batch.labels):
                labels[number] = int(batch.labels[number - begin])
        begin = end
    return ids, labels


@dataclass(frozen=True, slots=True)
class _Batch:
    """Row n's are the tokens from offsets[n] to offsets[n + 1]. All arrays of int32; there may be no labels."""

    offsets: Any
    tokens: Any
    labels: Any


def _read_shard(path: Path) -> Iterator[_Batch]:
    """The batches, each of which is good until the next one.

    By Arrow's small library: the large one takes 170 MB, which every server would have to carry.
    """
    import nanoarrow
    from nanoarrow.ipc import InputStream

    with path.open("rb") as file:
        file.read(_MAGIC)  # then the file is a stream, with an index at its end
        with InputStream.from_readable(file) as stream:
            for batch in nanoarrow.ArrayStream(stream).iter_chunks():
                columns = dict(zip((f.name for f in batch.schema.fields), batch.iter_children(), strict=True))
                rows = columns["input_ids"]
                labels = columns["labels"].buffers[1] if "labels" in columns else ()
                yield _Batch(
                    np.asarray(rows.buffers[1], np.int32)[: len(batch) + 1],
                    np.asarray(rows.child(0).buffers[1], np.int32),
                    np.asarray(labels, np.int32)[: len(batch)],
                )
