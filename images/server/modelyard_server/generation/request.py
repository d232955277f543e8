"""What a request asks of the engine, and what may become of it. Without torch, which takes seconds to import."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sampling:
    """`temperature` 0 takes the likeliest token, and the rest has no meaning then.

    Else one of the likeliest tokens that have `top_p` of the probability together. `seed` is any whole number.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


GREEDY = Sampling()


class Ended(Exception):  # noqa: N818 - a state, not a mistake
    """The engine answers nothing any more."""


class Broken(Exception):  # noqa: N818 - the model's problem
    """The model's logits for a request were no numbers."""
