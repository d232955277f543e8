"""Objects at rest, small: nearly all objects of a cluster are, and those of one kind are nearly the same.

An object is kept as compressed JSON, with the first one of its kind as zlib's dictionary: what both say costs
nothing. Measured on Jobs and pods of training: a thirtieth of the JSON (two fifths without a dictionary), in half
the time.
"""

from __future__ import annotations

import json
import zlib
from typing import NamedTuple

from modelyard.engine.plan import Manifest

LEVEL = 3  # with a dictionary faster than 1, and hardly larger than 9
WINDOW = 32 << 10  # bytes: of a longer dictionary zlib uses the end only


class Packed(NamedTuple):
    """One object, and what it was compressed against."""

    content: bytes
    sample: bytes

    def unpack(self) -> Manifest:
        """The object, made anew."""
        reader = zlib.decompressobj(zdict=self.sample)
        body: Manifest = json.loads(reader.decompress(self.content) + reader.flush())
        return body


class Packer:
    """Packs objects, and has a sample of each kind: the first one that it packed."""

    def __init__(self) -> None:
        self._samples: dict[str, bytes] = {}

    def pack(self, kind: str, body: Manifest) -> Packed:
        """The object at rest. Whatever its kind's sample looks like, it comes back as it was."""
        text = json.dumps(body, separators=(",", ":")).encode()
        sample = self._samples.setdefault(kind, text[-WINDOW:])
        writer = zlib.compressobj(LEVEL, zdict=sample)
        return Packed(writer.compress(text) + writer.flush(), sample)
