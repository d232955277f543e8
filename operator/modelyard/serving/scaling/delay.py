"""The scale-down delay: replicas stay for as long as any wish within it asked for them."""

from __future__ import annotations

import math

from modelyard.contract.load import PANIC_SECONDS, STABLE_SECONDS
from modelyard.serving.scaling.config import ScalingConfig
from modelyard.serving.scaling.state import Held

# Who has not looked for so long knows nothing of the wishes meanwhile.
GAP_SECONDS = 30
# The wishes of a delay are kept this coarsely.
_PARTS = 20


def seconds(config: ScalingConfig) -> float:
    """How far back wishes count."""
    return max(config.delay_seconds, STABLE_SECONDS)


def step(config: ScalingConfig) -> float:
    """How much longer than the delay a wish may hold replicas, in exchange for fewer changes of the state."""
    return max(PANIC_SECONDS, seconds(config) / _PARTS)


def remember(
    held: tuple[Held, ...], wish: int, replicas: int, config: ScalingConfig, now: float
) -> tuple[Held, ...]:
    """What is held after a look that wishes for so many while `replicas` are there.

    Nothing is held while they are wished for. From the first look that wishes for fewer on, they are held for the
    delay, and so is the highest wish of the looks since.
    """
    delay, coarse = seconds(config), step(config)
    # Entries from a clock that was ahead, or from a longer delay.
    longest = math.ceil(now + delay + 2 * coarse)
    held = tuple(Held(min(h.replicas, replicas), min(h.until, longest)) for h in held)
    if wish >= replicas:
        fresh = held and held[0].replicas >= replicas and held[0].until >= now + delay
        return held if fresh else ()
    watched = held and held[0].replicas >= replicas and held[-1].until >= now + delay - GAP_SECONDS
    if not watched:
        # Longer than what follows, so that a load which falls for a moment until it is low is one change.
        return (Held(replicas, longest),)
    if any(h.replicas >= wish and h.until >= now + delay for h in held):
        return held
    higher = (h for h in held[1:] if h.replicas > wish and h.until > now)
    return (held[0], *higher, Held(wish, math.ceil(now + delay + coarse)))


def left(held: tuple[Held, ...], now: float) -> tuple[Held, ...]:
    """What still holds."""
    return tuple(h for h in held if h.until > now)
