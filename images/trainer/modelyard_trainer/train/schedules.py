"""Learning rate schedules that transformers lacks or that fail under ZeRO, as factors of the peak rate.

All in closed form, which resumes at any step without a state of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from modelyard_models.failure import Failure

Schedule = Callable[[int], float]


def one_cycle(
    steps: int, *, pct_start: float = 0.3, div_factor: float = 25.0, final_div_factor: float = 1e4
) -> Schedule:
    """Up by a cosine from 1/div_factor to 1, then down to 1/(div_factor * final_div_factor).

    Smith and Topin, Super-Convergence (2018), with the names and defaults of torch's OneCycleLR.
    """
    rise = max(1.0, pct_start * steps - 1)
    fall = max(1.0, steps - 1 - rise)
    first, last = 1 / div_factor, 1 / (div_factor * final_div_factor)

    def factor(step: int) -> float:
        if step <= rise:
            return _cosine(first, 1.0, step / rise)
        return _cosine(1.0, last, min(1.0, (step - rise) / fall))

    return factor


def cyclic(steps: int, *, cycles: float = 3.0, min_factor: float = 0.1) -> Schedule:
    """Straight up and down between min_factor and 1, `cycles` times over the run.

    Smith, Cyclical Learning Rates (2017), the triangular policy.
    """
    half = max(1.0, steps / cycles / 2)

    def factor(step: int) -> float:
        place = step / half % 2
        return min_factor + (1 - min_factor) * (place if place <= 1 else 2 - place)

    return factor


def polynomial(steps: int, *, learning_rate: float, lr_end: float = 1e-7, power: float = 1.0) -> Schedule:
    """Down from 1 to lr_end / learning_rate as (1 - step / steps) ** power.

    The same as transformers' get_polynomial_decay_schedule_with_warmup, which asks the optimizer for its
    peak rate; DeepSpeed's optimizers of ZeRO and bf16 don't know theirs. Raises ValueError unless lr_end is
    below learning_rate.
    """
    if not 0 <= lr_end < learning_rate:
        raise ValueError(f"lr_end {lr_end} must be at least 0 and below the learning rate {learning_rate}")
    last = lr_end / learning_rate

    def factor(step: int) -> float:
        return last + (1 - last) * float(max(0.0, 1 - step / steps) ** power)

    return factor


OWN_SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "one_cycle": one_cycle,
    "cyclic": cyclic,
    "polynomial": polynomial,
}


def make_schedule(name: str, steps: int, warmup: int, options: dict[str, Any]) -> Schedule:
    """One of ours by name; `options` are lr_scheduler_kwargs. Raises Failure (InvalidArgument).

    Warm-up steps are the rise of one_cycle; before the others they are a straight line from 0.
    """
    try:
        if name == "one_cycle" and warmup:
            options = {"pct_start": min(1.0, (warmup + 1) / steps), **options}
            return OWN_SCHEDULES[name](steps, **options)
        inner = OWN_SCHEDULES[name](max(1, steps - warmup), **options)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        message = f"training.args.lr_scheduler_kwargs {options} doesn't fit {name}: {error}"
        raise Failure("InvalidArgument", message) from error

    def factor(step: int) -> float:
        return step / warmup * inner(0) if step < warmup else inner(step - warmup)

    return factor


def own_schedule(name: str, options: dict[str, Any]) -> Callable[[int, int], Schedule] | None:
    """Ours by name, to be made of steps and warm-up steps; None for transformers' own."""
    if name not in OWN_SCHEDULES:
        return None
    return lambda steps, warmup: make_schedule(name, steps, warmup, options)


def _cosine(start: float, end: float, place: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * place)) / 2
