"""The decision: so many replicas, for this reason, and when to look again."""

from __future__ import annotations

import math
from dataclasses import dataclass

from modelyard.contract.load import PANIC_SECONDS, STABLE_SECONDS
from modelyard.serving.scaling import delay, demand
from modelyard.serving.scaling.config import ScalingConfig
from modelyard.serving.scaling.load import Load
from modelyard.serving.scaling.state import Held, ScalingState

# Panic: the panic window asks for so many times what is ready.
PANIC_RATIO = 2.0
# Replicas come when the load exceeds what there is by so much, and go when what is left would have so much to spare.
# 1.1 x 1.1 is what +-10 % around any load span.
TOLERANCE = 1.1
SPARE = 1.1
# A surge is what chance hardly does: this many standard deviations of a Poisson number above the tolerance.
SURGE_DEVIATIONS = 2.0
# A load that rises is looked at for so long before replicas are added, so that the panic window knows where it goes.
SETTLE_SECONDS = 2.0
# A queue asks for replicas for so long after the first of them were added; then those that start are waited for.
QUEUE_SECONDS = 2 * PANIC_SECONDS
LOOK_SECONDS = 2.0
HURRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Present:
    """replicas: wanted now, as the last decision left it. ready: able to serve."""

    replicas: int
    ready: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and the figures for a message.

    reason: LoadUnknown, FromZero, LoadRising, Panic, Surge, StableLoad, AtMaximum, AtTarget, AtMinimum,
    ScaleDownDelayed, PartialLoad, LowerLoad or Idle. stable, panic: replicas that each window asks for, a fraction.
    wish: replicas that the load asks for, whatever the bounds. until: Unix seconds at which a delayed scale-down is due
    if the load stays. look_in: seconds; None if nothing changes until a gateway tells of work.
    """

    replicas: int
    reason: str
    state: ScalingState
    look_in: float | None
    stable: float = 0.0
    panic: float = 0.0
    wish: int = 0
    until: float | None = None


def decide(load: Load, state: ScalingState, config: ScalingConfig, present: Present, now: float) -> Decision:
    """How many replicas there should be. `now` is Unix seconds: the state outlives processes and machines."""
    replicas = config.clamp(present.replicas)
    if not load.usable:
        return Decision(replicas, "LoadUnknown", state, LOOK_SECONDS)
    since = None if present.ready >= replicas else state.growing_since
    passed = 0.0 if since is None else max(0.0, now - since)
    queue = 0.0  # replicas that start were wanted for it
    if passed <= QUEUE_SECONDS:
        queue = demand.queue_then(load, max(0.0, config.start_seconds - passed))
    service = demand.service_seconds(load, config)
    stable = demand.in_window(load.stable, queue, service, config)
    panic = demand.in_window(load.panic, queue, service, config)
    until = _renew_panic(state.panic_until, panic, present.ready, now)
    look = _Look(
        load, config, Present(replicas, present.ready), now, stable, panic, until, state.rising_since, since
    )
    if replicas == 0:
        return look.start() if load.busy else look.rest()
    return look.adjust(state.held)


def _renew_panic(until: int | None, panic: float, ready: int, now: float) -> int | None:
    """Until when there is panic: a stable window after the last look that asked for it, or a panic window longer, so
    that a panic that lasts changes the state less often.
    """
    longest = math.ceil(now + STABLE_SECONDS + PANIC_SECONDS)
    until = min(until or 0, longest)
    if panic < PANIC_RATIO * max(1, ready):
        return until if until > now else None
    return until if until >= now + STABLE_SECONDS else longest


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at the load, while so many replicas are wanted."""

    load: Load
    config: ScalingConfig
    present: Present
    now: float
    stable: float
    panic: float
    panic_until: int | None
    rising_since: int | None
    growing_since: int | None

    @property
    def level(self) -> float:
        """Replicas that the load asks for at most. All that is there asks while nothing can serve it."""
        waiting = demand.at_once(self.load, self.config) if self.present.ready == 0 else 0.0
        return max(self.stable, self.panic, waiting)

    @property
    def wish(self) -> int:
        """Replicas that the load asks for at least, with some to spare. The stable window is calm, the panic window
        knows first of a fall; what it has below the stable one by chance is no fall.
        """
        chance = math.sqrt(self.panic / self.config.target)
        return self.config.clamp(max(1, demand.whole(min(self.stable, self.panic + chance) * SPARE)))

    def start(self) -> Decision:
        """From zero: as many as the requests that wait ask for."""
        wanted = self.config.clamp(max(1, demand.whole(self.level)))
        return self._decide(wanted, "FromZero", delay.remember((), self.wish, wanted, self.config, self.now))

    def rest(self) -> Decision:
        """At zero, without work."""
        return self._decide(0, "Idle", ())

    def adjust(self, held: tuple[Held, ...]) -> Decision:
        """More replicas if any reason asks for more than the tolerance lets pass; or fewer."""
        replicas, reason = self.present.replicas, self._reason_for_more()
        kept = delay.remember(held, self.wish, replicas, self.config, self.now)
        if reason is None:
            return self._shrink(kept)
        wanted = self.config.clamp(demand.whole(self.level))
        if wanted <= replicas:
            return self._decide(replicas, "AtMaximum", kept)
        began = math.floor(self.now)
        if self.rising_since is not None:
            began = min(began, self.rising_since)  # it may be of a clock that was ahead
        if self.now - began < SETTLE_SECONDS:
            return self._decide(replicas, "LoadRising", kept, rising_since=began)
        return self._decide(wanted, reason, delay.remember((), self.wish, wanted, self.config, self.now))

    def _reason_for_more(self) -> str | None:
        enough = self.present.replicas * TOLERANCE + 1e-9
        if self.level <= enough:
            return None
        if self.stable > enough:
            return "StableLoad"
        if self.panic_until is not None and self.panic > enough:
            return "Panic"
        if self.present.ready == 0 and self.level > max(self.stable, self.panic):
            return "FromZero"
        chance = SURGE_DEVIATIONS * math.sqrt(self.present.replicas / self.config.target)
        return "Surge" if self.panic > enough + chance else None

    def _shrink(self, held: tuple[Held, ...]) -> Decision:
        """Fewer replicas, if nothing stands against it."""
        left = delay.left(held, self.now)
        # Never so few that this very load would ask for more again.
        enough = self.config.clamp(demand.whole(self.level / TOLERANCE))
        fewest = max([self.wish, enough, *(h.replicas for h in left)])
        idle = not self.load.busy and self.load.idle_seconds >= self.config.idle_seconds
        if fewest == 1 and idle and self.config.min_replicas == 0:
            fewest = 0
        if fewest >= self.present.replicas and self.wish >= self.present.replicas:
            low = (
                self.present.replicas == self.config.min_replicas
                and self.level < self.present.replicas / TOLERANCE
            )
            return self._decide(self.present.replicas, "AtMinimum" if low else "AtTarget", held)
        if self.panic_until is not None:
            return self._decide(self.present.replicas, "Panic", held, self.panic_until)
        if not self.load.complete:
            return self._decide(self.present.replicas, "PartialLoad", held)
        if fewest >= self.present.replicas:
            return self._decide(self.present.replicas, "ScaleDownDelayed", held, held[0].until)
        if fewest == 0:
            return self._decide(0, "Idle", ())
        return self._decide(
            fewest, "LowerLoad", delay.remember(left, self.wish, fewest, self.config, self.now)
        )

    def _decide(
        self,
        replicas: int,
        reason: str,
        held: tuple[Held, ...],
        until: float | None = None,
        rising_since: int | None = None,
    ) -> Decision:
        growing = None
        if self.present.ready < replicas:
            growing = math.ceil(self.now) if self.growing_since is None else self.growing_since
        state = ScalingState(self.panic_until, rising_since, growing, held)
        look_in = self._look_in(state, replicas)
        return Decision(
            replicas, reason, state, look_in, self.stable, self.panic, demand.whole(self.level), until
        )

    def _look_in(self, state: ScalingState, replicas: int) -> float | None:
        """When the next look can tell something that a gateway doesn't tell by itself."""
        if state.rising_since is not None:
            return HURRY_SECONDS
        if self.load.busy or self.stable > 0 or not self.load.complete:
            return LOOK_SECONDS
        due = [t - self.now for t in (self.panic_until, *(h.until for h in state.held)) if t and t > self.now]
        if state.held:
            due.append(delay.step(self.config))  # wishes that nobody sees count as high ones
        if replicas == 1 and self.config.min_replicas == 0:
            due.append(self.config.idle_seconds - self.load.idle_seconds)
        return max(HURRY_SECONDS, min(due)) if due else None
