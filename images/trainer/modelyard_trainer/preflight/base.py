"""The base model as training will meet it, known from its files' headers and its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.contract.run import ModelInput
from modelyard_models.failure import Failure
from modelyard_models.padding import sees_padding

from modelyard_trainer.preflight.generation import check_generation
from modelyard_trainer.preflight.head import Head, read_labels, reads_end
from modelyard_trainer.preflight.weights import Findings, build_empty, inspect_weights
from modelyard_trainer.tasks import Task


@dataclass(frozen=True, slots=True)
class Base:
    """`labels`: the classes of its head in order, None where it has no whole classifier's head.

    `vocabulary` counts the rows of its input embedding: token ids must be below it; None where it hashes them or
    takes any. `positions` is the longest input it takes, None where nothing bounds it. `made_causal`: an encoder
    that is trained as a decoder. `sees_padding`: what it says of a text depends on the longest one beside it.
    `reads_end`: it classifies a text at its end token.
    """

    findings: Findings
    labels: tuple[str, ...] | None
    vocabulary: int | None
    positions: int | None
    made_causal: bool
    sees_padding: bool = False
    reads_end: bool = False


def describe_base(base: Base, head: Head | None) -> dict[str, Any]:
    """What modelyard.json says of how the base model was taken: `head` kept or new, and what begins at random."""
    about: dict[str, Any] = base.findings.describe()
    if head is not None:
        about["head"] = "kept" if head.kept else "new"
    if base.made_causal:
        about["madeCausal"] = True
    return about


def examine_base(model: ModelInput, folder: Path, task: Task) -> Base:
    """Looks at the model of a run, from files or from `model.config`. Loads no weight.

    Raises Failure (ModelInvalid).
    """
    return examine_model(model, folder, task)[0]


def examine_model(model: ModelInput, folder: Path, task: Task) -> tuple[Base, Any]:
    """What is to be known of the model, and the model itself as the task has it, on the meta device.

    Raises Failure (ModelInvalid).
    """
    from modelyard_models.positions import longest_input

    config = read_config(folder)
    causal = task.adapt(config)
    if task.predicts_tokens:
        check_generation(folder)
    empty = build_empty(task.load_class(), config)
    findings = inspect_weights(folder, str(model.uri), empty) if model.config is None else Findings()
    has_head = task.labelled and model.config is None and not _lacks_head(findings)
    base = Base(
        findings,
        read_labels(config) if has_head else None,
        _vocabulary(empty),
        longest_input(config),
        causal,
        sees_padding(config.model_type),
        task.labelled and reads_end(empty),
    )
    return base, empty


def read_config(folder: Path) -> Any:
    """The configuration of a model folder. Raises Failure (ModelInvalid)."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever a foreign file makes it raise
        raise Failure(
            "ModelInvalid",
            f"transformers can't read the model's configuration: {error}; correct model.config, or choose another",
        ) from error


def check_length(base: Base, max_length: int) -> None:
    """Refuses a maxLength that the model's position table can't hold. Raises Failure (InvalidArgument)."""
    if base.positions is not None and max_length > base.positions:
        raise Failure(
            "InvalidArgument",
            f"training.maxLength is {max_length}, but the model takes {base.positions} tokens at most; set maxLength"
            f" to {base.positions} or less",
        )


def _lacks_head(findings: Findings) -> bool:
    return any("pooler." not in name for name in findings.new)


def _vocabulary(empty: Any) -> int | None:
    try:
        embeddings = empty.get_input_embeddings()
    except NotImplementedError:  # a table that is none, as CANINE's
        return None
    table = getattr(embeddings, "weight", embeddings)
    return int(table.shape[0]) if hasattr(table, "shape") else None
