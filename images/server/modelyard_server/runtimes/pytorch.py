"""PyTorch, with the model as transformers has it."""

from __future__ import annotations

import inspect
import logging
from typing import Any

from modelyard_models.failure import boundary, shorten

from modelyard_server.failure import Failure
from modelyard_server.package.folder import Package
from modelyard_server.package.tokens import Batch
from modelyard_server.runtimes.runtime import Floats, Output, Runtime

log = logging.getLogger(__name__)

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "none": "auto"}


class TorchRuntime(Runtime):
    """Computes in the variant's number format, on a GPU where there is one."""

    name = "torch"

    def __init__(self, model: Any, field: str) -> None:
        self._model, self._field = model, field
        self._device = next(model.parameters()).device
        self._typed = "token_type_ids" in inspect.signature(model.forward).parameters

    @classmethod
    def load(cls, package: Package, output: Output, threads: int) -> TorchRuntime:
        return cls(load_model(package, output, threads), output.field)

    def run(self, batch: Batch) -> Floats:
        import torch

        given = {"input_ids": batch.ids, "attention_mask": batch.mask}
        if batch.types is not None and self._typed:
            given["token_type_ids"] = batch.types
        tensors = {name: torch.from_numpy(value).to(self._device) for name, value in given.items()}
        with torch.inference_mode():
            found = getattr(self._model(**tensors), self._field)
        return found.float().cpu().numpy()


def load_model(package: Package, output: Output, threads: int) -> Any:
    """transformers' model of the folder, whole, of finite numbers, on the device that computes. Raises Failure."""
    if package.config.variant not in _DTYPES:
        raise Failure(
            "ModelInvalid",
            f"runtime torch has no variant {package.config.variant}; serve it with runtime onnx",
        )
    import torch

    torch.set_num_threads(threads)
    model = _load(package, output)
    if torch.cuda.is_available():
        model = model.to("cuda")
    else:
        _take_in(model)
    _check_numbers(model)
    return model.eval()


def _load(package: Package, output: Output) -> Any:
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    kind = getattr(transformers, output.auto_class)
    options: dict[str, Any] = {"dtype": _DTYPES[package.config.variant]}
    if not output.needs_all and _has_pooler(kind, package.about):
        options["add_pooling_layer"] = False  # nothing asks it, and many folders have none
    with boundary("ModelInvalid", f"{package.config.folder} can't be loaded", "export the model anew"):
        model, info = kind.from_pretrained(
            package.folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            attn_implementation=None if output.pages else _choose_attention(package, torch),
            **options,
        )
    for what, says in (
        ("missing_keys", "lacks weights, which would be made anew at random"),
        ("mismatched_keys", "has weights of other sizes than its configuration"),
    ):
        if names := sorted(str(name) for name in info[what]):
            raise Failure(
                "ModelInvalid",
                f"{package.config.folder} {says}: {shorten(names, 3)}; name a folder whose model was trained for this"
                f" task, which has a {output.auto_class}",
            )
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False  # a cache of its own: nothing is generated, or pages are used
    if left := sorted(str(name) for name in info["unexpected_keys"]):
        log.info("weights that this task has no use for: %s", shorten(left, 5))
    return model


def _has_pooler(kind: Any, about: Any) -> bool:
    """Whether the model's class can be made without the layer that pools for the pre-training's own task."""
    made = kind._model_mapping.get(type(about), None)
    classes = made if isinstance(made, tuple | list) else (made,)
    return all(
        c is not None and "add_pooling_layer" in inspect.signature(c.__init__).parameters for c in classes
    )


def _choose_attention(package: Package, torch: Any) -> str | None:
    """Eager on CPUs in bfloat16, where it takes less than half the time; else what transformers takes by itself."""
    stored = str(getattr(package.about, "dtype", None)).removeprefix("torch.")
    halved = package.config.variant == "bf16" or (package.config.variant == "none" and stored == "bfloat16")
    return "eager" if halved and not torch.cuda.is_available() else None


def _take_in(model: Any) -> None:
    """Copies what is mapped from the files into memory of the process.

    Else whoever writes a file later changes the answers of servers that run, one that is cut short ends them, and the
    kernel may drop pages under pressure, to be read again from a disk far away.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def _check_numbers(model: Any) -> None:
    for name, tensor in model.named_parameters():
        if not bool(tensor.isfinite().all()):
            raise Failure(
                "ModelInvalid",
                f"its weight {name} holds values that are no numbers: training broke it; serve another",
            )
