"""The tensors of a model folder, as the headers of its safetensors files describe them. No weight is read.

A safetensors file begins with the length of its header (8 bytes, little endian) and the header, JSON that has
each tensor's dtype, shape and place (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard_models.failure import Failure, shorten
from modelyard_models.files import read_json

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One tensor. `dtype` is safetensors' word (F32, BF16 …)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: str


def read_headers(folder: Path, uri: str) -> dict[str, TensorHeader]:
    """The tensors that transformers would load from `folder`, by name.

    Raises Failure (ModelInvalid): an adapter in place of a model, a shard that is missing or cut off, an index
    that doesn't fit its shards.
    """
    check_adapter(folder, uri)
    if (folder / INDEX).exists() and not (folder / SINGLE).exists():
        return _read_shards(folder, uri)
    if not (folder / SINGLE).exists():
        found = shorten(sorted(p.name for p in folder.glob("*.safetensors")))
        raise Failure(
            "ModelInvalid",
            f"{uri} has neither {SINGLE} nor {INDEX}, which transformers looks for; it holds {found}. Save the"
            " model anew with save_pretrained(), or add the index",
        )
    return {header.name: header for header in _read_file(folder / SINGLE, uri)}


def choose_weights(names: Collection[str], index: Any) -> set[str]:
    """Of a folder's files `names` the safetensors that transformers loads; `index` is what INDEX holds, if anything.

    Beside them lie copies for others, of the same size (consolidated.safetensors, model.fp16.safetensors). Where
    neither SINGLE nor an index names one that is there, all are taken, and read_headers says what is wrong.
    """
    weights = {name for name in names if name.endswith(".safetensors")}
    if SINGLE in weights:
        return {SINGLE}
    return weights & set(_read_places(index).values()) or weights


def check_pointers(files: Iterable[Path], uri: str) -> None:
    """Refuses what `git clone` leaves without git-lfs. Raises Failure (ModelInvalid)."""
    pointers = sorted(path.name for path in files if _is_pointer(path))
    if pointers:
        raise Failure(
            "ModelInvalid",
            f"{uri} holds git-lfs pointers in place of {shorten(pointers, 4)}: the repository was cloned without"
            " its large files. Run `git lfs pull` there, or name the model as hf://org/name",
        )


def check_adapter(folder: Path, uri: str) -> None:
    """Refuses a folder that holds an adapter (LoRA and kin). Raises Failure (ModelInvalid)."""
    about = read_json(folder / ADAPTER)
    if about is None:
        return
    base = about.get("base_model_name_or_path") if isinstance(about, dict) else None
    raise Failure(
        "ModelInvalid",
        f"{uri} is an adapter (LoRA) of {base or 'another model'}, not a whole model: merge it into its base with"
        " merge_and_unload(), save the result with save_pretrained(), and name that folder",
    )


def _read_shards(folder: Path, uri: str) -> dict[str, TensorHeader]:
    placed = _read_places(read_json(folder / INDEX))
    if not placed:
        raise Failure("ModelInvalid", f"{uri}: {INDEX} has no weight_map; save the model anew")
    shards = sorted(set(placed.values()))
    if missing := [name for name in shards if not (folder / name).is_file()]:
        raise Failure(
            "ModelInvalid",
            f"{uri} lacks {len(missing)} of its {len(shards)} shards: {shorten(missing, 4)}. The download or the"
            " upload was not finished; bring the missing files there",
        )
    found = {header.name: header for shard in shards for header in _read_file(folder / shard, uri)}
    if absent := sorted(name for name in placed if name not in found):
        raise Failure(
            "ModelInvalid",
            f"{uri}: {INDEX} lists {len(absent)} tensors that no shard holds ({shorten(absent, 3)}); shards of"
            " different models are mixed, upload the folder again",
        )
    return found


def _read_places(index: Any) -> dict[str, str]:
    """In which file an index has each tensor; nothing if it isn't one."""
    placed = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(placed, dict) or not all(isinstance(name, str) for name in placed.values()):
        return {}
    return placed


def _read_file(path: Path, uri: str) -> Iterator[TensorHeader]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                part = file.get_slice(name)
                yield TensorHeader(name, tuple(part.get_shape()), str(part.get_dtype()), path.name)
    except SafetensorError as error:
        raise Failure(
            "ModelInvalid",
            f"{uri}: {path.name} ({path.stat().st_size} bytes) is cut off or no safetensors file ({error});"
            " upload it again",
        ) from error


def _is_pointer(path: Path) -> bool:
    if path.stat().st_size > 1024:  # a pointer has some 130 bytes
        return False
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER
