"""`python -m modelyard_build.measuring.scoring PLAN DONE`: what a causal model says to each token of the rows."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from modelyard.contract.model import REFERENCE_CANDIDATES, Reference, ReferenceRow
from modelyard_models.failure import Failure, boundary
from modelyard_models.files import write_atomic
from modelyard_server.package.folder import Package, open_package
from modelyard_server.runtimes.pytorch import load_model
from modelyard_server.settings import Settings, read_settings, set_environment

from modelyard_build.child import end, leave_failure
from modelyard_build.measuring.plan import Plan, Scored
from modelyard_build.rows import Rows
from modelyard_build.tasks import TASKS
from modelyard_build.tasks.task import find_dtype, find_tolerance, pick_rows

LONGEST = 512  # tokens of a row: each has as many logits as there are tokens in the vocabulary


def main() -> int:
    """Writes answers and reference, and how many rows there are, or a failure in their place."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    done = Path(sys.argv[2])
    try:
        plan = Plan.model_validate_json(Path(sys.argv[1]).read_bytes())
        settings = read_settings()
        set_environment(settings.threads)
        with boundary(
            "ModelUnproven", "the model does not answer", "the build's log says why; serve another"
        ):
            write_atomic(done, score(plan, settings).model_dump_json())
    except Failure as failure:
        return leave_failure(failure, done)
    return 0


def score(plan: Plan, settings: Settings) -> Scored:
    """Reads the rows one after the other, each by itself: all that the plan asks for, or until its time is over."""
    package = open_package(settings.folder, settings.config, settings.reference)
    model = load_model(package, TASKS[settings.config.task].output, settings.threads)
    rows = Rows.read(plan.rows)
    texts = [package.tokens.encode(text).ids.tolist() for text in rows.texts or []]
    found = [ids[: min(LONGEST, package.limit)] for ids in rows.ids or texts if len(ids) > 1]
    if not found:
        raise Failure(
            "InvalidBuildConfig", "no text has two tokens, so none follows another: give longer ones"
        )
    until = math.inf if plan.seconds is None else time.monotonic() + plan.seconds
    likeliest, losses, read = [], [], 0
    for ids in found[: plan.count]:
        if time.monotonic() > until:
            break
        following, loss = compare_tokens(ask(model, ids), ids)
        likeliest.append(following)
        losses.append(loss)
        read += 1
    np.savez(plan.answers, next=np.concatenate(likeliest), losses=np.array(losses))
    if plan.reference is not None:
        reference = refer(package, model, found, rows.split)
        write_atomic(plan.reference, reference.model_dump_json(by_alias=True))
    return Scored(rows=read)


def ask(model: Any, ids: Sequence[int]) -> Any:
    """Logits (tokens, vocabulary), in float32."""
    import torch

    with torch.inference_mode():
        return model(torch.tensor([list(ids)], device=model.device)).logits[0].float()


def compare_tokens(logits: Any, ids: Sequence[int]) -> tuple[Any, float]:
    """The likeliest token after each but the last (int32), and the summed loss of those that follow.

    Raises Failure (ModelUnproven) for logits that are no numbers.
    """
    import torch

    if not bool(torch.isfinite(logits).all()):
        raise Failure("ModelUnproven", "the model's answer holds values that are no numbers; serve another")
    following = torch.tensor(list(ids)[1:], device=logits.device)
    loss = torch.nn.functional.cross_entropy(logits[:-1], following, reduction="none").sum(
        dtype=torch.float64
    )
    return logits[:-1].argmax(-1).cpu().numpy().astype(np.int32), float(loss)


def refer(package: Package, model: Any, rows: Sequence[Sequence[int]], split: str) -> Reference:
    """What follows a few rows, by which a server knows the model again."""
    answered, largest = [], 0.0
    for text, ids in pick_rows(package.tokens, rows):
        logits = ask(model, ids)[-1]
        largest = max(largest, float(logits.abs().max()))
        best = logits.log_softmax(-1).topk(min(REFERENCE_CANDIDATES, len(logits)))
        answered.append(
            ReferenceRow(
                text=text, input_ids=ids, candidates=best.indices.tolist(), log_probs=best.values.tolist()
            )
        )
    dtype = find_dtype(package.config.variant, package.about)
    told = {"task": package.config.task, "split": split, "dtype": dtype}
    return Reference.model_validate(told | {"tolerance": find_tolerance(dtype, largest), "rows": answered})


if __name__ == "__main__":
    end(main)
