"""Evaluations around training: the untrained baseline, the best checkpoint, the test split."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.contract.run import GateInput
from modelyard_models.files import read_json, write_json
from transformers import TrainerCallback

from modelyard_trainer.train.agreement import Agreement
from modelyard_trainer.train.gate import improves
from modelyard_trainer.train.ranks import Ranks
from modelyard_trainer.train.saving import Saver

_log = logging.getLogger("modelyard.train")
_BASELINE = "baseline.json"


@dataclass(frozen=True, slots=True)
class Splits:
    """The prepared splits; validation and test may be empty."""

    train: Any
    validation: Any
    test: Any


@dataclass
class Baseline:
    """Metrics of the untrained model; kept in the run's folder, so that later attempts tell them too."""

    folder: Path
    ranks: Ranks
    validation: dict[str, float]
    test: dict[str, float]

    @classmethod
    def recall(cls, folder: Path, ranks: Ranks) -> Baseline:
        """What an earlier attempt measured."""
        known = ranks.share((read_json(folder / _BASELINE) or {}) if ranks.leads else None)
        return cls(folder, ranks, known.get("validation", {}), known.get("test", {}))

    def measure(self, trainer: Any, splits: Splits) -> None:
        """Measures both splits."""
        self.validation = trainer.measure(splits.validation) if len(splits.validation) else {}
        self.test = trainer.measure(splits.test) if len(splits.test) else {}
        if self.ranks.leads:
            _log.info("untrained: %s", self.validation)
            write_json(self.folder / _BASELINE, {"validation": self.validation, "test": self.test})


class FirstThings(TrainerCallback):  # type: ignore[misc]
    """What comes before the first step: the rehearsal, the baseline, and what a stop left owing."""

    def __init__(
        self,
        baseline: Baseline | None,
        splits: Splits,
        agreement: Agreement,
        saver: Saver,
        loaded: Callable[[], None],
        rehearsal: Any = None,
    ) -> None:
        self._baseline = baseline
        self._loaded = loaded  # called once a checkpoint, if any, has been loaded
        self._splits = splits
        self._agreement = agreement
        self._saver = saver
        self._rehearsal = rehearsal
        self.trainer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluates if there is reason to."""
        self._loaded()
        if self._rehearsal is not None:
            self._rehearsal.run(self.trainer)
        if self._baseline is not None and state.global_step == 0 and not self._baseline.validation:
            self._baseline.measure(self.trainer, self._splits)
        if self._agreement.owes_evaluation:
            self.trainer.catch_up()
        self._saver.begin()


def load_best(
    trainer: Any, ranks: Ranks, saver: Saver, gate: GateInput, world_size: int, final: float
) -> Any | None:
    """Loads the best verified checkpoint if it is better than what training ended with; returns it.

    One of another world size is left alone: ZeRO's parts don't fit.
    """
    found = None
    if ranks.leads:
        saver.settle()  # or which is the best would depend on how fast the agent is
        for checkpoint in saver.ranked():
            if not improves(gate, float(checkpoint.manifest["value"]), final):
                break
            if int(checkpoint.manifest.get("worldSize") or world_size) == world_size:
                found = checkpoint
                break
    best = ranks.share(found)
    if best is None:
        return None
    _log.info(
        "step %d is better than the last (%s %s): taking it", best.step, gate.metric, best.manifest["value"]
    )
    trainer.deepspeed.load_checkpoint(
        str(best.folder), load_optimizer_states=False, load_lr_scheduler_states=False, load_module_only=True
    )
    return best
