"""Which requests have one answer, and what they have in common with those that ask the same."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import orjson

from modelyard_gateway.wire.request import RequestHead

# Reading a longer body would delay everybody else's request by more than half a millisecond.
LONGEST = 64 << 10  # bytes

_INFER = re.compile(r"/v2/models/[^/]+(?:/versions/[^/]+)?/infer")
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * 19
_GENERATES = frozenset(("/v1/chat/completions", "/v1/completions"))


def make_key(head: RequestHead, body: bytes, task: str | None) -> bytes | None:
    """The same for requests that differ in white space or in the order of names only; None for those that aren't kept.

    Kept are: tensors of predictive models (Open Inference Protocol), embeddings, and generated texts at temperature 0.
    A `seed` isn't enough: in a batch with others a server may round, and so draw, otherwise. Streams never are.
    Nor are bodies that a server may read otherwise than it is done here: with names that come twice, or with integers
    beyond 64 bits.
    """
    if head.method != "POST" or head.encoded or len(body) > LONGEST:
        return None
    path, generates = head.path, head.path in _GENERATES
    if (
        not generates
        and path != "/v1/embeddings"
        and (task == "text-generation" or not _INFER.fullmatch(path))
    ):
        return None
    try:
        request = orjson.loads(body)
        if not isinstance(request, dict) or (generates and not _is_greedy(request)):
            return None
        canonical = orjson.dumps(request, option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    if not _has_one_meaning(body, canonical):
        return None
    return hashlib.blake2b(b"%b\0%b" % (head.target, canonical), digest_size=24).digest()


def _has_one_meaning(body: bytes, canonical: bytes) -> bool:
    """By looks that cost a tenth of reading it."""
    # Of the same names one is left, with its colon. A colon that is written as an escape would hide that.
    if body.count(b":") != canonical.count(b":") or b"\\u003" in body:
        return False
    return _LONG_NUMBER not in body.translate(_DIGITS) or _LONG_NUMBER not in _STRINGS.sub(
        b"", body
    ).translate(_DIGITS)


def _is_greedy(request: dict[str, Any]) -> bool:
    temperature = request.get("temperature")
    return not request.get("stream") and type(temperature) in (int, float) and temperature == 0
