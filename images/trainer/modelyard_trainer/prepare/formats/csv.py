"""Comma-separated values and their kin: any delimiter, any line end, quotes by RFC 4180."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain

from modelyard_models.failure import Failure

from modelyard_trainer.prepare.decoding import LONGEST, FileText
from modelyard_trainer.prepare.formats.columns import Mark, Row, Wanted
from modelyard_trainer.prepare.formats.delimiters import guess, named

_SAMPLE = 1 << 16  # characters that the delimiter is guessed from


def read(text: FileText, wanted: Wanted, delimiter: str | None) -> Iterator[Row]:
    """Yields the rows below the header. `delimiter` is a character, `tab`, or None to be guessed.

    Raises Failure (DataInvalid, ColumnNotFound) naming the line where the trouble begins.
    """
    csv.field_size_limit(LONGEST)
    lines = text.lines()
    sample = _read_sample(lines)
    told = _told_delimiter(sample)
    # Excel's first line, sep=; is no row.
    before = 1 + next(i for i, line in enumerate(sample) if line.strip()) if told else 0
    delimiter = named(delimiter) if delimiter else told or guess(sample, wanted.names)
    records = _Records(chain(sample[before:], lines), before, delimiter, wanted)
    header = next(records, None)
    if header is None:
        raise wanted.fail("the file is empty; the first line must name the columns")
    hint = f" (the columns are parted by {delimiter!r}; data.sources[].delimiter sets another)"
    wanted.check(header, hint)
    records.width = len(header)
    places = [header.index(name) for name in wanted.names]
    for row in records:
        if len(row) != len(header):
            raise wanted.fail(
                f"{len(row)} fields under {len(header)} columns; quote fields that contain the delimiter "
                f"({delimiter!r}), or set data.sources[].delimiter",
                records.begin,
            )
        if len(row) > 1 and row == header:
            yield row[places[0]], Mark.HEADER
        else:
            yield row[places[0]], row[places[1]] if wanted.labelled else None


def _read_sample(lines: Iterator[str]) -> list[str]:
    sample: list[str] = []
    size = 0
    while size < _SAMPLE and (line := next(lines, None)) is not None:
        sample.append(line)
        size += len(line)
    return sample


def _told_delimiter(sample: list[str]) -> str | None:
    first = next((line for line in sample if line.strip()), "").strip("\r\n")
    return first[4] if len(first) == 5 and first[:4].lower() == "sep=" and first[4] != '"' else None


class _Records:
    """Records of a CSV file, without blank ones. `begin` is the line where the last one began."""

    def __init__(self, lines: Iterator[str], before: int, delimiter: str, wanted: Wanted) -> None:
        self._lines, self._delimiter, self._wanted = lines, delimiter, wanted
        self._line = before  # the number of the last line read
        self._opened = 0  # the line where the last quoted field opened
        self._last = ""  # the last line, if it is not its record's first
        self._fresh = True
        self._reader = csv.reader(self._feed(), delimiter=delimiter, strict=True)
        self.begin = 0
        self.width = 0  # columns, once they are known

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        while True:
            self._fresh = True
            try:
                record = next(self._reader)
            except csv.Error as error:
                raise self._explain(error) from error
            if len(record) > 1 or (record and (self.width == 1 or record[0].strip())):
                return record

    def _feed(self) -> Iterator[str]:
        for line in self._lines:
            self._line += 1
            if self._fresh:
                self._fresh, self._last = False, ""
                self.begin = self._opened = self._line
            else:
                # Asked for more, the reader is within a quoted field: the last line left one open.
                self._note_opening(self._line - 1)
                self._last = line
            yield line

    def _note_opening(self, number: int) -> None:
        # A quote that closed a field on the last line was followed by one that opened another.
        if '"' in self._last.replace('""', ""):
            self._opened = number

    def _explain(self, error: csv.Error) -> Failure:
        said = str(error)
        if "end of data" in said:
            self._note_opening(self._line)
            return self._wanted.fail(
                "the quoted field that opens here is never closed; close it, or double the quote if it is text",
                self._opened,
            )
        if "expected after" in said:
            if self._closes_well():
                self._opened = self._line
            if self._opened == self._line:
                return self._wanted.fail(
                    f"text after a closing quote where {self._delimiter!r} belongs; double the quotes within "
                    "quoted fields, or set data.sources[].delimiter",
                    self._line,
                )
            return self._wanted.fail(
                f"the quoted field that opens here goes on to line {self._line}, where text follows its "
                "closing quote; close it where it ends, and double quotes that are text",
                self._opened,
            )
        if "field larger" in said:
            return self._wanted.fail(
                f"the field that begins here has more than {LONGEST >> 20} Mi characters; close its quote",
                self._opened,
            )
        return self._wanted.fail(f"{said}; correct the line", self._line)

    def _closes_well(self) -> bool:
        """Whether the field that the last line began within ended there as it should."""
        text = self._last.replace('""', "  ")
        end = text.find('"')
        return end >= 0 and text[end + 1 : end + 2] in (self._delimiter, "", "\r", "\n")
