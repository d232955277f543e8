"""On which side a family is padded, and which families see their padding though an attention mask hides it.

Measured on models of every family that transformers trains as a classifier; the tests measure them again.
"""

from __future__ import annotations

# Their head reads the last place, whatever stands there.
_LEFT = frozenset({"xlnet"})
# They mix or pool neighbouring places (FNet's Fourier transform, Funnel's and CANINE's strides), or hash them (YOSO).
_SEEN = frozenset({"canine", "fnet", "funnel", "yoso"})


def pads_left(family: str) -> bool:
    """Whether rows of a model type must be padded at their beginning."""
    return family in _LEFT


def sees_padding(family: str) -> bool:
    """Whether what a model type says of a text depends on the longest text beside it."""
    return family in _SEEN
