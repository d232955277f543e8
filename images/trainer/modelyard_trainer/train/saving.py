"""Checkpoints: when they are due, and their way from the Trainer's folder to a verified one."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard.contract.layout import checkpoint_dir
from modelyard.contract.report import Checkpoint
from modelyard.contract.run import CheckpointPolicy
from modelyard_agent import checkpoints
from modelyard_agent.client import Client
from modelyard_agent.hashing import CheckpointError
from modelyard_agent.parts import Share

from modelyard_trainer.context import Context
from modelyard_trainer.train.ranks import Ranks

_log = logging.getLogger("modelyard.train")
_VERIFY_SECONDS = 600.0  # for hashing, at a run's own end


class Saver:
    """Keeps the book of checkpoints. A checkpoint counts once the agent has verified it."""

    def __init__(
        self,
        ctx: Context,
        ranks: Ranks,
        client: Client | None,
        metric: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ctx = ctx
        self._ranks = ranks
        self._client = client
        self._metric = metric
        self._policy: CheckpointPolicy = ctx.run.checkpoint
        self._clock = clock
        self._saved_at = clock()
        self._values: dict[int, float] = {}
        self.last_step: int | None = None

    def begin(self) -> None:
        """Training begins now: time until the first checkpoint counts from here."""
        self._saved_at = self._clock()

    def due(self, step: int) -> bool:
        """Whether the policy wants a checkpoint after this step."""
        if self._policy.every_steps is not None and step % self._policy.every_steps == 0:
            return True
        limit = self._policy.max_lost_seconds
        return limit is not None and self._clock() - self._saved_at >= limit

    def note(self, step: int, metrics: dict[str, float]) -> None:
        """Remembers the metric of a step, for its checkpoint: the one to come, or the one just saved."""
        value = metrics.get(self._metric, math.nan)
        if not math.isfinite(value):
            return
        self._values[step] = value
        if self.last_step == step and self._ranks.leads:
            self._amend(step)

    def folder(self, step: int) -> Path:
        """Where this attempt's checkpoint of a step lies."""
        return self._ctx.storage / checkpoint_dir(self._ctx.run_path, self._ctx.attempt, step)

    def save(self, step: int, write: Callable[[], None]) -> None:
        """Saves by `write`, which all ranks take part in, and has the agents verify it, each what its node wrote."""
        if self._ranks.leads:
            # A process started again in place comes by the same steps; a false manifest would be worse than
            # none.
            checkpoints.remove(self.folder(step))
        save = self._ranks.share(uuid.uuid4().hex)
        self._ranks.wait()
        started = self._clock()
        write()
        self._ranks.wait()
        seconds = self._clock() - started
        self._saved_at, self.last_step = self._clock(), step
        share = self._share(save)
        if self._ranks.leads:
            self._request(step, seconds, share)
        elif share is not None:
            self._request_part(step, share)

    def wait(self, step: int, seconds: float) -> Checkpoint | None:
        """The checkpoint once it is verified, for so long at most; None if it isn't. On rank 0."""
        if self._client is not None:
            answer = self._client.wait_for_verification(step, seconds)
            if answer is not None and answer.get("state") == "verified":
                return Checkpoint.model_validate(answer["checkpoint"])
            if answer is not None:
                _log.error("checkpoint %d is not verified: %s", step, answer.get("message", "not in time"))
                return None
        found = [c for c in self.verified() if c.folder == self.folder(step)]
        return self.describe(found[0]) if found else None

    def settle(self) -> None:
        """Waits until all that was saved is verified, each with its value: the last is the last in the queue."""
        if self.last_step is not None:
            self.wait(self.last_step, _VERIFY_SECONDS)

    def verified(self) -> list[Any]:
        """Verified checkpoints of the run, newest first."""
        return checkpoints.list_verified(self._ctx.run_dir)

    def ranked(self) -> list[Any]:
        """Verified checkpoints that have a value of the gate's metric, best first."""
        policy = checkpoints.read_policy(self._ctx.run.model_dump(mode="json", by_alias=True))
        return checkpoints.rank_best(self.verified(), policy)

    def describe(self, checkpoint: Any) -> Checkpoint:
        """A checkpoint as the contract has it."""
        return Checkpoint.model_validate(checkpoint.describe(self._ctx.storage))

    def _request(self, step: int, seconds: float, share: Share | None) -> None:
        info: dict[str, Any] = {
            "step": step,
            "attempt": self._ctx.attempt,
            "worldSize": self._ctx.world_size,
            "saveSeconds": round(seconds, 3),
        }
        if step in self._values:
            info |= self._value(step)
        if self._ask(share, **info):
            return
        checkpoints.write_manifest(self.folder(step), info, share)
        checkpoints.rotate(
            self._ctx.run_dir, checkpoints.read_policy(self._ctx.run.model_dump(mode="json", by_alias=True))
        )

    def _request_part(self, step: int, share: Share) -> None:
        if not self._ask(share, step=step, attempt=self._ctx.attempt):
            checkpoints.write_part(self.folder(step), share)

    def _ask(self, share: Share | None, **info: Any) -> bool:
        """Whether the agent does it; else this process must, at the cost of the training's time."""
        info["path"] = checkpoint_dir(self._ctx.run_path, self._ctx.attempt, info["step"])
        if share is not None:
            info["share"] = share.describe()
        if self._client is not None and self._client.request_verification(**info):
            return True
        _log.warning(
            "no agent answers on this pod; checkpoint %d is verified by the training process", info["step"]
        )
        return False

    def _share(self, save: str) -> Share | None:
        """What the first rank of a node has verified of a save by several nodes."""
        ctx = self._ctx
        if ctx.nodes == 1 or ctx.local_rank > 0:
            return None
        return Share(save, ctx.node, ctx.nodes, range(ctx.rank, ctx.rank + ctx.local_world_size))

    def _amend(self, step: int) -> None:
        value = self._value(step)
        if self._client is not None and self._client.amend_checkpoint(step, **value):
            return
        try:
            checkpoints.amend_manifest(self.folder(step), value)
        except CheckpointError as error:  # it counts all the same, only not as the best
            _log.warning("the checkpoint of step %d gets no %s: %s", step, self._metric, error)

    def _value(self, step: int) -> dict[str, Any]:
        return {"metric": self._metric, "value": self._values[step]}


class Unsaved:
    """Keeps no book: for what is only tried."""

    last_step: int | None = None

    def note(self, step: int, metrics: dict[str, float]) -> None:
        """Forgets the metrics at once."""

    def save(self, step: int, write: Callable[[], None]) -> None:
        """Writes, and asks nobody to verify."""
        write()
