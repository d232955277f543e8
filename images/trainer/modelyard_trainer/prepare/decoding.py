"""Lines of text out of bytes: UTF-8, and what was left of older encodings in otherwise good files."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard_trainer.failure import Failure

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_GZIP = b"\x1f\x8b"
_FOREIGN = 0.1  # bytes of another encoding than UTF-8, as a share of the file, from which on it is refused


@dataclass
class Lines:
    """The lines of a file. `recoded` counts those that were not UTF-8 and were read as Windows-1252.

    Stray bytes of older encodings are common in collected text, and one must not cost the whole file. A
    file that is full of them is of an encoding that can't be guessed: Failure (DataInvalid).
    """

    path: Path
    where: str
    recoded: int = 0

    def __iter__(self) -> Iterator[str]:
        total = foreign = 0
        with self._open() as file:
            for number, raw in enumerate(file, 1):
                if number == 1:
                    if raw.startswith(_UTF16):
                        raise self._refuse("UTF-16")
                    raw = raw.removeprefix(_BOM)
                total += len(raw)
                try:
                    yield raw.decode()
                except UnicodeDecodeError:
                    self.recoded += 1
                    foreign += sum(byte > 127 for byte in raw)
                    yield _decode_legacy(raw)
        if foreign > total * _FOREIGN:
            raise self._refuse("not UTF-8")

    def _open(self) -> Any:
        with self.path.open("rb") as file:
            packed = file.read(2) == _GZIP
        return gzip.open(self.path, "rb") if packed else self.path.open("rb")

    def _refuse(self, encoding: str) -> Failure:
        return Failure("DataInvalid", f"{self.where}: the file is {encoding}; convert it with iconv -t UTF-8")


def _decode_legacy(raw: bytes) -> str:
    try:
        return raw.decode("cp1252")
    except UnicodeDecodeError:  # it leaves five bytes undefined
        return raw.decode("latin-1")
