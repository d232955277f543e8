"""What makes a model's folder one that works anywhere: nothing in it of this training's machines or settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from modelyard_models.files import read_json, walk_files, write_json
from modelyard_models.padding import pads_left
from modelyard_models.positions import counts_from_padding, longest_input

_UNBOUNDED = 1 << 30  # tokens: what tokenizers without a length of their own say is larger
_PICKLE = "training_args.bin"  # of paths inside this pod
_TOKENIZER = "tokenizer_config.json"
# How the tokenizer was loaded here, which transformers writes with it.
_LOADING = (
    "is_local",
    "local_files_only",
    "name_or_path",
    "cache_dir",
    "token",
    "trust_remote_code",
    "revision",
)


def restore_settings(model: Any, tokenizer: Any, base: Path, max_length: int) -> None:
    """Undoes what was set for training only, and bounds the tokenizer's length by the model's.

    `base` is the base model's folder, `max_length` what rows were cut at (tokens).
    """
    from transformers import AutoConfig

    given = AutoConfig.from_pretrained(base, local_files_only=True)
    _copy("use_cache", given, model.config)
    if counts_from_padding(given) and getattr(given, "pad_token_id", None) is not None:
        model.config.pad_token_id = (
            given.pad_token_id
        )  # the Trainer wrote the tokenizer's, which may be another
    generation = getattr(model, "generation_config", None)
    if generation is not None and not (base / "generation_config.json").is_file():
        generation.use_cache = getattr(given, "use_cache", generation.use_cache)  # it was made of the model's
    if pads_left(given.model_type):
        tokenizer.padding_side = "left"
    tokenizer.model_max_length = bound_length(
        tokenizer.model_max_length, longest_input(model.config), max_length
    )


def bound_length(own: int, longest: int | None, trained: int) -> int:
    """The length (tokens) at which a tokenizer truncates: its own, within the model's.

    A tokenizer that has none gets the model's, or, where that has no table of positions, the one it was trained
    at. Without it `truncation=True` truncates nothing, and a long text fails inside the model.
    """
    if own < _UNBOUNDED:
        return own if longest is None else min(own, longest)
    return trained if longest is None else longest


def clean_folder(folder: Path) -> None:
    """Takes out what a folder says of the machine that wrote it, and lets everyone read it who may read others."""
    (folder / _PICKLE).unlink(missing_ok=True)
    path = folder / _TOKENIZER
    about = read_json(path)
    if isinstance(about, dict):
        write_json(path, {name: value for name, value in about.items() if name not in _LOADING})
    umask = os.umask(0)
    os.umask(umask)
    for file in walk_files(folder):
        file.chmod(0o666 & ~umask)  # safetensors writes files that only their owner can read


def hide_credentials(value: Any) -> Any:
    """The same JSON value, with what may be secret taken out of each http(s) URL: user, password and query."""
    if isinstance(value, dict):
        return {name: hide_credentials(item) for name, item in value.items()}
    if isinstance(value, list):
        return [hide_credentials(item) for item in value]
    if isinstance(value, str) and value.startswith(("https://", "http://")):
        parts = urlsplit(value)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return value


def _copy(name: str, source: Any, target: Any) -> None:
    if hasattr(source, name):
        setattr(target, name, getattr(source, name))
    elif hasattr(target, name):
        delattr(target, name)
