"""Bodies in chunks."""

from __future__ import annotations

import httptools

from modelyard_gateway.wire.fields import MAX_FIELDS, MAX_HEAD, Malformed

LAST = b"0\r\n\r\n"
# Chunks have sizes and extensions, and trailers follow them: all that is dropped. In chunks of a byte it is five times
# the body; what is more than this many times it is no body. Nor does a long body earn long trailers.
_OVERHEAD = 8
_HEAD = b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"


class Chunks:
    """The bytes of one body out of its chunks. `done` at its end; `surplus`: there came more, which is dropped."""

    def __init__(self) -> None:
        self.done = self.surplus = False
        self._pieces: list[bytes] = []
        self._trailers = self._extra = 0
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_HEAD)
        self._trailers = 0  # the head's own field isn't one

    def feed(self, data: bytes) -> list[bytes]:
        """The next pieces, none of them empty. Raises Malformed."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.done:
                raise Malformed(f"the body's chunks are malformed: {error}") from None
        pieces, self._pieces = self._pieces, []
        self._extra = max(0, self._extra + len(data) - (1 + _OVERHEAD) * sum(map(len, pieces)))
        if self._extra > MAX_HEAD or self._trailers > MAX_FIELDS:
            raise Malformed("the body is mostly chunk sizes, extensions and trailers")
        return pieces

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of the parser: a trailer."""
        self._trailers += 1

    def on_body(self, piece: bytes) -> None:
        """Of the parser."""
        self._pieces.append(piece)

    def on_message_begin(self) -> None:
        """Of the parser."""
        if self.done:
            self.surplus = True
            raise ValueError("no second message is read here")

    def on_message_complete(self) -> None:
        """Of the parser."""
        self.done = True


def encode(piece: bytes) -> bytes:
    """A chunk."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)
