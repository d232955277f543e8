"""The written weights against the trained ones: all names, shapes and types, and the values of sampled rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

import deepspeed
import torch
from modelyard_models.failure import shorten
from safetensors import safe_open

from modelyard_trainer.train.ranks import Ranks

SAMPLES = 256  # tensors whose values are compared, at most
_NAMES = 3  # in a message
# The types as a safetensors header names them.
_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip


def count_bytes(model: Any) -> int:
    """Bytes of a model's parameters, wherever they are."""
    return sum(_shape(p).numel() * p.element_size() for p in model.parameters())


def find_no_number(model: Any, ranks: Ranks) -> str | None:
    """Name of the first parameter with a value that is no number; None if there is none. For all ranks.

    Each rank looks at what it holds: under ZeRO-3 that is its part.
    """
    names = [name for name, _ in model.named_parameters()]
    worst = 0
    for index, parameter in enumerate(model.parameters()):
        if not bool(torch.isfinite(_held(parameter)).all()):
            worst = len(names) - index  # the largest of all ranks' is the first
            break
    worst = ranks.largest(worst)
    return names[len(names) - worst] if worst else None


def compare_weights(model: Any, folder: Path, ranks: Ranks) -> tuple[str | None, int]:
    """In what the files differ from the model, if in anything, and of how many tensors rows were compared.

    For all ranks: under ZeRO-3 a tensor is brought together for a moment, one at a time.
    """
    expected = expect_tensors(model)
    written = read_headers(folder) if ranks.leads else None
    problem = ranks.share(_compare_headers(expected, written) if written is not None else None)
    if problem is not None:
        return problem, 0
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    # A tensor that transformers writes in another form than it computes with has another name in the file.
    names = _spread(
        [n for n, about in expected.items() if n in tensors and _shape(tensors[n]) == about.shape]
    )
    differs = None
    with ExitStack() as files:
        opened = {p: files.enter_context(safe_open(p, "pt")) for p in _files(folder)} if ranks.leads else {}
        for name in names:
            with _gather(tensors[name]):
                if differs is None and written is not None:
                    trained, stored = tensors[name].data, opened[written[name][0]].get_slice(name)
                    if not all(_same(trained, stored, row) for row in _rows(trained.shape)):
                        differs = f"its weight {name} has other values than the trained model's"
    return ranks.share(differs), len(names)


def expect_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Name, shape and type of each tensor that save_pretrained writes for a model, on the meta device.

    transformers leaves tied weights out, and writes some families in the form of their first publication.
    """
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    ignored = set(model._keys_to_ignore_on_save or ())
    tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(
        model.named_buffers(remove_duplicate=False)
    )
    state = {
        name: torch.empty(_shape(tensors[name]), dtype=tensors[name].dtype, device="meta")
        for name in model.state_dict()
        if name in tensors and name not in ignored
    }
    kept: dict[str, torch.Tensor] = revert_weight_conversion(
        model, remove_tied_weights_from_state_dict(state, model)
    )
    return kept


def read_headers(folder: Path) -> dict[str, tuple[Path, tuple[int, ...], str]]:
    """File, shape and type of each tensor in a folder's safetensors files; no values are read."""
    found = {}
    for path in _files(folder):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dictionary
                about = file.get_slice(name)
                found[name] = (path, tuple(about.get_shape()), about.get_dtype())
    return found


def _compare_headers(
    expected: dict[str, torch.Tensor], written: dict[str, tuple[Path, tuple[int, ...], str]]
) -> str | None:
    if missing := [name for name in expected if name not in written]:
        return (
            f"{len(missing)} of its {len(expected)} tensors are not in its files: {shorten(missing, _NAMES)}"
        )
    for name, tensor in expected.items():
        _, shape, dtype = written[name]
        if shape != tuple(tensor.shape):
            return f"its weight {name} is of shape {shape} in its file, not {tuple(tensor.shape)}"
        if _TYPES.get(dtype) != tensor.dtype:
            return f"its weight {name} is of type {dtype} in its file, not {str(tensor.dtype).removeprefix('torch.')}"
    return None


def _held(parameter: Any) -> torch.Tensor:
    """What this rank has of a parameter: under ZeRO-3 a part, without the filling after the last value."""
    part = getattr(parameter, "ds_tensor", None)
    if part is None:
        data: torch.Tensor = parameter.data
        return data
    begin = part.numel() * parameter.ds_zero_partition_rank
    held: torch.Tensor = part.data.flatten()[: max(0, parameter.ds_numel - begin)]
    return held


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _shape(tensor: Any) -> torch.Size:
    return torch.Size(getattr(tensor, "ds_shape", tensor.shape))  # ZeRO-3 leaves an empty tensor in its place


def _spread(names: list[str]) -> list[str]:
    """SAMPLES of the names, evenly, with the first and the last."""
    if len(names) <= SAMPLES:
        return names
    return [names[round(i * (len(names) - 1) / (SAMPLES - 1))] for i in range(SAMPLES)]


def _gather(tensor: Any) -> AbstractContextManager[Any]:
    """A parameter's whole value is there for as long as the block lasts."""
    return deepspeed.zero.GatheredParameters([tensor]) if hasattr(tensor, "ds_id") else nullcontext()


def _rows(shape: torch.Size) -> Iterator[int]:
    if not len(shape) or not shape[0]:
        return iter(())
    return iter(sorted({0, shape[0] // 2, shape[0] - 1}))


def _same(trained: torch.Tensor, stored: Any, row: int) -> bool:
    return bool(torch.equal(stored[row : row + 1], trained[row : row + 1].detach().cpu()))
