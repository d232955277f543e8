"""On which step to save and on which to stop: agreed on by all ranks, or none of them could go on.

One all-reduce (MAX) of one element after each optimizer step, over gloo, so that no GPU is waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from modelyard_trainer.train.ranks import Ranks

_GO_ON, _SAVE, _STOP = 0, 1, 2


class Agreement(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Sets the Trainer's control, the same on all ranks.

    `due` is asked on rank 0 only. At the last step there is always an evaluation (if there is a validation
    split) and a checkpoint, so that whatever fails later need not train again. An evaluation that is due
    but not done, since saving comes before it or a stop came in its way, is owed: `owes_evaluation` goes
    into the checkpoint.
    """

    def __init__(
        self, ranks: Ranks, stop_file: Path, due: Callable[[int], bool], saves_on_stop: bool, evaluates: bool
    ) -> None:
        self._ranks = ranks
        self._stop_file = stop_file
        self._due = due
        self._saves_on_stop = saves_on_stop
        self._evaluates = evaluates
        self.stopped = False
        self.owes_evaluation = False

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of this."""
        return {"args": {}, "attributes": {"owes_evaluation": self.owes_evaluation}}

    def asked_to_stop(self) -> bool:
        """Whether any rank's pod is asked to stop. To be called by all ranks at the same place."""
        return self._ranks.largest(_STOP if self._stop_file.exists() else _GO_ON) == _STOP

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Decides about this step."""
        wish = _STOP if self._stop_file.exists() else _GO_ON
        if wish == _GO_ON and self._ranks.leads and self._due(state.global_step):
            wish = _SAVE
        agreed = self._ranks.largest(wish)
        last = state.global_step >= state.max_steps
        control.should_save = agreed == _SAVE or last
        if last:
            control.should_log = True
            control.should_evaluate = self._evaluates
        self.owes_evaluation = bool(control.should_evaluate)
        if agreed == _STOP:
            self.stopped = True
            control.should_training_stop = True
            control.should_save = self._saves_on_stop or last
            # Saving must not wait for an evaluation: the grace period is short.
            control.should_evaluate = False

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Nothing is owed any more."""
        self.owes_evaluation = False
