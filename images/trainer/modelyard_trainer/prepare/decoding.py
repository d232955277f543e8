"""Text out of bytes: UTF-8, and what was left of older encodings in otherwise good files."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard_models.failure import Failure

LONGEST = 1 << 26  # bytes of a line, and characters of a JSON value: a row is held in memory whole
_BLOCK = 1 << 20  # bytes
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_GZIP = b"\x1f\x8b"
_FOREIGN = 0.1  # bytes of another encoding than UTF-8, as a share of the file, from which on it is refused
_ESCAPED = re.compile("[\udc80-\udcff]")  # a byte that is no UTF-8, as surrogateescape leaves it


@dataclass
class FileText:
    """The text of a file, in lines or in blocks. `recoded` counts lines that were not UTF-8 throughout.

    Stray bytes of older encodings are common in collected text, and one must not cost the whole file: they
    are read as Windows-1252. A file that is full of them is of an encoding that can't be guessed: Failure
    (DataInvalid), as for UTF-16, NUL bytes, damaged gzip files and lines of more than 64 MiB.
    """

    path: Path
    where: str
    recoded: int = 0
    _total: int = 0
    _foreign: int = 0

    def lines(self) -> Iterator[str]:
        """Lines with their ends, which may be LF, CRLF, CR, or a mixture."""
        rest, number = b"", 0
        for block in self._blocks():
            lines = (rest + block).splitlines(keepends=True)
            # What ends with CR may be half of a CRLF.
            rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
            for line in lines:
                yield self._decode(line)
            number += len(lines)
            if len(rest) > LONGEST:
                raise Failure(
                    "DataInvalid",
                    f"{self.where}, line {number + 1}: the line has more than {LONGEST >> 20} MiB; a row is "
                    "a line, so break it up, or name the right format in data.sources[].format",
                )
        if rest:
            yield self._decode(rest)

    def blocks(self) -> Iterator[str]:
        """Pieces of the text, about a MiB each, with no regard to lines."""
        rest = b""
        for block in self._blocks():
            data = rest + block
            end = _end_of_characters(data)
            rest = data[end:]
            yield self._decode_block(data[:end])
        yield self._decode_block(rest)

    def _blocks(self) -> Iterator[bytes]:
        self._total = self._foreign = 0
        try:
            with self._open() as file:
                while block := file.read(_BLOCK):
                    yield self._check(block)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise Failure(
                "DataInvalid", f"{self.where}: the gzip file is damaged ({error}); upload it again"
            ) from error
        if self._foreign > self._total * _FOREIGN:
            raise self._refuse("not UTF-8")

    def _check(self, block: bytes) -> bytes:
        if self._total == 0:
            if block.startswith(_UTF16):
                raise self._refuse("UTF-16")
            block = block.removeprefix(_BOM)
        if b"\0" in block:
            raise Failure(
                "DataInvalid",
                f"{self.where}: byte {self._total + block.index(0) + 1} is NUL, which no text has: the file "
                "is UTF-16 without a mark (convert it with iconv -f UTF-16 -t UTF-8), binary, or damaged",
            )
        self._total += len(block)
        return block

    def _open(self) -> Any:
        with self.path.open("rb") as file:
            packed = file.read(2) == _GZIP
        return gzip.open(self.path, "rb") if packed else self.path.open("rb")

    def _decode(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            text, foreign = _ESCAPED.subn(_decode_legacy, raw.decode(errors="surrogateescape"))
            self.recoded += 1
            self._foreign += foreign
            return text

    def _decode_block(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "".join(map(self._decode, raw.splitlines(keepends=True)))

    def _refuse(self, encoding: str) -> Failure:
        return Failure("DataInvalid", f"{self.where}: the file is {encoding}; convert it with iconv -t UTF-8")


def _decode_legacy(match: re.Match[str]) -> str:
    byte = bytes([ord(match[0]) - 0xDC00])
    try:
        return byte.decode("cp1252")
    except UnicodeDecodeError:  # it leaves five bytes undefined
        return byte.decode("latin-1")


def _end_of_characters(data: bytes) -> int:
    """Where the last character of UTF-8 ends that is whole."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if length > back else len(data)
        if byte < 0x80:
            break
    return len(data)
