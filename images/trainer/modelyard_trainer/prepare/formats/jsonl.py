"""JSON Lines: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator

from modelyard_trainer.prepare.decoding import FileText
from modelyard_trainer.prepare.formats.columns import Row, Wanted
from modelyard_trainer.prepare.formats.objects import Objects, describe, explain


def read(text: FileText, wanted: Wanted) -> Iterator[Row]:
    """Yields the rows. Raises Failure (DataInvalid, ColumnNotFound) naming the line."""
    objects, first = Objects(wanted), True
    for number, line in enumerate(text.lines(), 1):
        if not line.strip():
            continue
        if first and line.lstrip().startswith("["):
            raise wanted.fail("the file is an array; set data.sources[].format to json", number)
        first = False
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise wanted.fail(f"no JSON ({explain(error)}); one object a line", number) from error
        if not isinstance(value, dict):
            raise wanted.fail(f"no JSON object but {describe(value)}; one object a line", number)
        yield objects.take(value)
    objects.end()
