"""Server-sent events of a stream, each with the time at which its last byte came."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")


def parse_events(pieces: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, str]]:
    """(time, data) of every event that has data. What follows the last empty line is no event, as the standard says."""
    buffer = b""
    for time, piece in pieces:
        *events, buffer = _END.split(buffer + piece)
        for event in events:
            lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
            if lines:
                yield time, b"\n".join(lines).decode(errors="replace")
