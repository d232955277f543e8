"""How one vector is made of a text's tokens, as a folder for sentence-transformers says it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from modelyard_models.files import read_json
from modelyard_models.modules import MODULES, list_folders

from modelyard_server.failure import Failure
from modelyard_server.package.tokens import Ids
from modelyard_server.runtimes.runtime import Floats

_MODE = "pooling_mode"
_MODES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}


def _mean(hidden: Floats, mask: Ids) -> Floats:
    weights = mask.astype(np.float32)[:, :, None]
    return np.asarray((hidden * weights).sum(1) / weights.sum(1))


def _first(hidden: Floats, mask: Ids) -> Floats:
    return np.asarray(hidden[np.arange(len(hidden)), mask.argmax(1)])


def _last(hidden: Floats, mask: Ids) -> Floats:
    return np.asarray(hidden[np.arange(len(hidden)), mask.shape[1] - 1 - mask[:, ::-1].argmax(1)])


_POOLS: dict[str, Callable[[Floats, Ids], Floats]] = {"mean": _mean, "cls": _first, "lasttoken": _last}


@dataclass(frozen=True, slots=True)
class Pooling:
    """`mode` is one of mean, cls and lasttoken; `normalised`: vectors have length 1."""

    mode: str = "mean"
    normalised: bool = True

    def pool(self, hidden: Floats, mask: Ids) -> Floats:
        """Of (rows, tokens, numbers) the vectors, (rows, numbers). Padding, where `mask` is 0, counts for nothing."""
        vectors = _POOLS[self.mode](hidden, mask)
        if not self.normalised:
            return vectors
        lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12))


def read_pooling(folder: Path) -> Pooling:
    """As the folder says; without a word of it the mean, normalised. Raises Failure (ModelInvalid)."""
    if not (folder / MODULES).exists():
        return Pooling()
    list_folders(folder, folder.name)
    modules = read_json(folder / MODULES)
    kinds = [(_read_kind(module), module) for module in modules] if isinstance(modules, list) else []
    names = [kind for kind, _ in kinds]
    if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise Failure(
            "ModelInvalid",
            f"{MODULES} chains {', '.join(names) or 'nothing'}; what is served is Transformer, Pooling and, at the end,"
            " Normalize",
        )
    if kinds[0][1].get("path"):
        raise Failure(
            "ModelInvalid",
            f"{MODULES} has the model in {kinds[0][1]['path']}; it must lie in the folder itself",
        )
    return Pooling(_read_mode(folder / str(kinds[1][1].get("path", ""))), "Normalize" in names)


def _read_kind(module: Any) -> str:
    kind = module.get("type") if isinstance(module, dict) else None
    return kind.rpartition(".")[2] if isinstance(kind, str) else "something without a type"


def _read_mode(folder: Path) -> str:
    about = read_json(folder / "config.json")
    if not isinstance(about, dict):
        raise Failure("ModelInvalid", f"{MODULES} names {folder.name}/config.json, which can't be read")
    modes = [name for key, name in _MODES.items() if about.get(key) is True]
    if isinstance(about.get(_MODE), str):
        modes = [about[_MODE]]
    if len(modes) != 1 or modes[0] not in _POOLS:
        raise Failure(
            "ModelInvalid",
            f"{folder.name}/config.json pools by {', '.join(modes) or 'nothing'}; it must be one of"
            f" {', '.join(_POOLS)}",
        )
    if about.get("include_prompt") is False:
        raise Failure(
            "ModelInvalid", f"{folder.name}/config.json leaves prompts out of the pooling (include_prompt)"
        )
    return modes[0]
