"""Whether the weights of a folder are those of the model that its configuration describes.

The model is built on the meta device, without memory, and transformers' own loader is run on the headers, so
that its renamings and conversions of keys count here as they do when the weights are loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelyard_models.failure import Failure, shorten
from modelyard_models.headers import TensorHeader, read_headers

from modelyard_trainer.preflight.leftovers import is_leftover
from modelyard_trainer.tasks import TASKS

_SHOWN = 3  # names of each side in a message
_KEPT = 32  # names of each kind in modelyard.json
# What wrappers put before every key when they are saved in place of the model within.
_WRAPPERS = {
    "_orig_mod.": "torch.compile",
    "module.": "DistributedDataParallel",
    "_forward_module.": "a training framework",
    "_fsdp_wrapped_module.": "FSDP",
}
_TRAINABLE = ("F64", "F32", "F16", "BF16")  # integers of two dimensions are packed weights, no counters
_POOLER = re.compile(r"(^|\.)pooler\.")  # an encoder's layer over its first token: a part of the head


@dataclass(frozen=True, slots=True)
class Findings:
    """What of a base model's weights was not as the model wants them; names sorted.

    `missing` and `mismatched` are newly initialised and belong to the head. `unexpected` are left out: another head,
    parts that the task has no use for, and tables that were never learnt.
    """

    missing: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()

    @property
    def new(self) -> tuple[str, ...]:
        """Everything that is newly initialised."""
        return tuple(sorted({*self.missing, *self.mismatched}))

    def describe(self) -> dict[str, list[str]]:
        """For modelyard.json, bounded."""
        kinds = {"newlyInitialized": self.new, "leftOut": self.unexpected}
        return {key: _bounded(names) for key, names in kinds.items() if names}


@dataclass(slots=True)
class _Sorted:
    body: list[str] = field(default_factory=list)
    head: list[str] = field(default_factory=list)


def build_empty(auto_class: Any, config: Any) -> Any:
    """The model on the meta device. Raises Failure (ModelInvalid) for a configuration that makes no model."""
    import torch

    if type(config) not in auto_class._model_mapping:
        raise Failure("ModelInvalid", _explain_family(auto_class, config.model_type))
    try:
        with torch.device("meta"):
            return auto_class.from_config(config)
    except Exception as error:  # whatever a foreign configuration makes a family raise
        raise Failure(
            "ModelInvalid",
            f"the model's configuration makes no {auto_class.__name__.removeprefix('AutoModelFor')} model"
            f" ({type(error).__name__}: {error}); correct model.config, or choose another model or task",
        ) from error


def inspect_weights(folder: Path, uri: str, empty: Any) -> Findings:
    """Compares a base model's files with the model, `empty` on the meta device. Raises Failure (ModelInvalid).

    Only the head may be missing, of another size, or left out: a body that is not the file's would be trained
    from random numbers while the card says "fine-tuned".
    """
    import torch

    config = empty.config
    headers = read_headers(folder, uri)
    check_quantization(config, headers, uri)
    tensors = {h.name: torch.empty(h.shape, device="meta") for h in headers.values()}
    with _silence():
        _, told = type(empty).from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            device_map={"": "meta"},
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    if told["error_msgs"]:
        raise Failure("ModelInvalid", f"{uri}: transformers can't load the weights: {told['error_msgs'][0]}")
    body = _find_body(empty)
    missing = _sort(told["missing_keys"], body)
    leftovers = {name for name in told["unexpected_keys"] if name in headers and is_leftover(headers[name])}
    unexpected = _sort(told["unexpected_keys"] - leftovers, body)
    sizes = {name: (tuple(have), tuple(want)) for name, have, want in told["mismatched_keys"]}
    mismatched = _sort(sizes, body)
    if unexpected.body and not missing.body:
        _leave_out(unexpected, _parts_of_others(config))
    if missing.body or (unexpected.body and not mismatched.body):
        theirs = [*unexpected.body, *unexpected.head]
        raise Failure("ModelInvalid", _explain_keys(uri, missing.body, theirs, headers))
    if mismatched.body:
        raise Failure("ModelInvalid", _explain_sizes(uri, mismatched.body, sizes))
    left_out = tuple(sorted({*unexpected.head, *leftovers}))
    return Findings(tuple(missing.head), tuple(mismatched.head), left_out)


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps the loader's own report of what we judge ourselves out of the log."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def check_quantization(config: Any, headers: dict[str, TensorHeader], uri: str) -> None:
    """Refuses quantized weights, whose steps no optimizer can make. Raises Failure (ModelInvalid)."""
    about = getattr(config, "quantization_config", None)
    integers = (h for h in headers.values() if len(h.shape) > 1 and h.dtype not in _TRAINABLE)
    packed = next((h for h in integers if not is_leftover(h)), None)
    if about is None and packed is None:
        return
    if about is not None:
        known = about if isinstance(about, dict) else about.to_dict()
        why = f"its config.json says {known.get('quant_method', 'quantization_config')}"
    else:
        assert packed is not None  # noqa: S101 - else there was nothing to say
        why = f"{packed.name} is {packed.dtype}"
    raise Failure(
        "ModelInvalid",
        f"{uri} is quantized ({why}), and quantized weights can't be trained; name the model that it was made of",
    )


def _find_body(model: Any) -> tuple[str, ...]:
    """Prefixes of the body's keys; what else the model has is its head.

    A body that was saved alone has keys without the model's prefix.
    """
    within = f"{model.base_model_prefix}."
    children = tuple(f"{name}." for name, _ in model.base_model.named_children())
    return (within, *children) if model.base_model is not model else (*children,)


def _parts_of_others(config: Any) -> set[str]:
    """Keys of the family's whole body, without its prefix: more than some of its classifiers have a use for."""
    from transformers import AutoModel

    return (
        set(build_empty(AutoModel, config).state_dict())
        if type(config) in AutoModel._model_mapping
        else set()
    )


def _leave_out(unexpected: _Sorted, known: set[str]) -> None:
    """Takes out of the body what the family knows and this task doesn't need, as the decoder of Funnel."""
    whole = {name for name in unexpected.body if name in known or name.partition(".")[2] in known}
    unexpected.body = [name for name in unexpected.body if name not in whole]
    unexpected.head += sorted(whole)


def _sort(names: Any, body: tuple[str, ...]) -> _Sorted:
    found = _Sorted()
    for name in sorted(names):
        inside = name.startswith(body) and not _POOLER.search(name)
        (found.body if inside else found.head).append(name)
    return found


def _explain_family(auto_class: Any, family: str) -> str:
    task = next(task for task in TASKS.values() if task.auto_class == auto_class.__name__)
    return (
        f"transformers has no {task.noun} of type {family}; choose a base model of a family that has one, as"
        f" {task.families}, or another task"
    )


def _explain_keys(
    uri: str, missing: list[str], unexpected: list[str], headers: dict[str, TensorHeader]
) -> str:
    names = sorted(headers)
    for prefix, wrapper in _WRAPPERS.items():
        if names and all(name.startswith(prefix) for name in names):
            return (
                f"{uri}: the keys of its weights begin with {prefix!r}, which {wrapper} leaves, so that none of them"
                f" is found ({shorten(names, 1)} for {shorten(missing, 1)}); save the model within the wrapper"
            )
    if not missing:
        return (
            f"{uri} holds {len(unexpected)} weights that its config.json has no place for"
            f" ({shorten(unexpected, _SHOWN)}), as when layers were cut off in the configuration; correct"
            " config.json, or save a model without them"
        )
    theirs = unexpected or [name for name in names if name not in missing]
    return (
        f"{uri} lacks {len(missing)} weights of the model that its config.json describes"
        f" ({shorten(missing, _SHOWN)}) and holds instead {shorten(theirs, _SHOWN)}; they would be random."
        " Correct config.json (model_type, sizes, layers), or name a folder that holds all weights"
    )


def _explain_sizes(
    uri: str, names: list[str], sizes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
) -> str:
    first = names[0]
    have, want = sizes[first]
    return (
        f"{uri}: {len(names)} weights have another size than config.json says: {first} is {list(have)}, the"
        f" configuration wants {list(want)}; it would be random throughout. Write the weights' sizes into"
        " config.json, or resize the weights and save the model anew"
    )


def _bounded(names: tuple[str, ...]) -> list[str]:
    return [*names[:_KEPT], *([f"and {len(names) - _KEPT} more"] if len(names) > _KEPT else [])]
