"""The model to train: loaded or made new, with its labels and its dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelyard.contract.run import ModelInput
from modelyard_models.failure import Failure
from modelyard_models.tokenizer import load_tokenizer

from modelyard_trainer.preflight.generation import settle_generation
from modelyard_trainer.preflight.head import Head
from modelyard_trainer.tasks import Task
from modelyard_trainer.train.precision import Precision

# What models call their dropout; only the names that a model's configuration has are set.
_DROPOUTS = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "hidden_dropout",
    "attention_dropout", "activation_dropout", "dropout", "dropout_rate", "classifier_dropout_prob",
    "seq_classif_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout",
    "resid_dropout", "embd_dropout", "embedding_dropout", "pooler_dropout",
)  # fmt: skip


def load_padding_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder, with a padding token."""
    tokenizer = load_tokenizer(folder)
    if tokenizer.pad_token is None:
        # Padding is masked everywhere, so any token will do; there is nearly always an EOS.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise Failure(
            "ModelInvalid", "the model's tokenizer has no padding, EOS or unknown token; choose another model"
        )
    return tokenizer


def load_config(model: ModelInput, folder: Path, task: Task, tokenizer: Any, head: Head | None) -> Any:
    """The model's configuration for this task, with the classes of `head` in its order.

    Raises Failure (ModelInvalid, InvalidArgument).
    """
    from transformers import AutoConfig

    more: dict[str, Any] = {}
    if head is not None:
        more = {
            "num_labels": len(head.labels),
            "id2label": dict(enumerate(head.labels)),
            "label2id": {label: index for index, label in enumerate(head.labels)},
        }
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **more)
    except Exception as error:  # whatever a foreign file makes it raise
        raise Failure("ModelInvalid", f"transformers can't read the model's config.json: {error}") from error
    task.adapt(config)
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = tokenizer.pad_token_id
    config.use_cache = False  # of no use in training, and it would be gathered in evaluation
    if model.dropout is not None:
        set_dropout(config, model.dropout)
    return config


def set_dropout(config: Any, value: float) -> None:
    """Writes dropout wherever the configuration has one. Raises Failure (InvalidArgument) if it has none."""
    names = [name for name in _DROPOUTS if hasattr(config, name)]
    if not names:
        raise Failure(
            "InvalidArgument",
            f"training.dropout can't be set: a model of type {config.model_type} has no dropout; remove it",
        )
    for name in names:
        setattr(config, name, value)


def load_model(
    model: ModelInput, folder: Path, task: Task, config: Any, precision: Precision, *, new_head: bool = False
) -> Any:
    """The model, on the CPU (or sharded at once under ZeRO-3). Raises Failure (ModelInvalid).

    Weights are loaded in the type that training computes in; DeepSpeed keeps float32 masters beside 16-bit
    ones. `new_head`: the base model's head tells other classes apart and is initialised anew. That nothing but
    the head is missing or of another size has been seen before (preflight.weights).
    """
    import torch

    kind = task.load_class()
    dtype = getattr(torch, precision)
    try:
        if model.config is not None:
            made = kind.from_config(config, dtype=dtype)
        else:
            made = kind.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=task.labelled,
            )
    except (ValueError, TypeError, OSError, KeyError, AttributeError, RuntimeError) as error:
        if "out of memory" in str(error):
            raise
        raise Failure("ModelInvalid", f"the model can't be loaded for {task.name}: {error}") from error
    settle_generation(getattr(made, "generation_config", None))
    conversions = getattr(made, "_weight_conversions", None)
    if conversions:
        # Under ZeRO-3 transformers keeps those too that the files had no use for, and saves by them: LayerNorm.gamma.
        made._weight_conversions = [conversion for conversion in conversions if conversion.was_used()]
    if new_head and model.config is None:
        renew_head(made)
    return made


def renew_head(model: Any) -> None:
    """Initialises everything outside of the base model anew, as a model of its family begins. In place."""
    import deepspeed
    import torch

    body = {id(parameter) for parameter in model.base_model.parameters()}
    owners = [m for m in model.modules() if any(id(p) not in body for p in m.parameters(recurse=False))]
    parameters = [p for m in owners for p in m.parameters(recurse=False) if id(p) not in body]
    # Under ZeRO-3 each rank holds a part of every parameter; elsewhere this gathers nothing.
    with torch.no_grad(), deepspeed.zero.GatheredParameters(parameters, modifier_rank=0):
        for parameter in parameters:
            parameter._is_hf_initialized = False  # transformers' mark of what was loaded
        for owner in owners:
            owner._is_hf_initialized = False
            model._init_weights(owner)
