"""A model's folder, looked at before anything of it is loaded."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.contract.layout import MODEL_REFERENCE
from modelyard.contract.server import ServerConfig
from modelyard_models.failure import boundary, shorten
from modelyard_models.headers import check_pointers, read_headers

from modelyard_server.failure import Failure
from modelyard_server.package.tokens import Tokens, load_tokens

log = logging.getLogger(__name__)

ONNX_FILE = "model.onnx"
# Formats that run code when they are read, or that nothing here reads.
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.h5", "*.msgpack")
_ADVICE = "save the model anew with transformers' save_pretrained()"


@dataclass(frozen=True, slots=True)
class Package:
    """`about` is transformers' configuration; `limit` the tokens of one text that may be asked, at most.

    `reference` is a file that may be absent, unless the config names it.
    """

    folder: Path
    config: ServerConfig
    about: Any
    tokens: Tokens
    limit: int
    reference: Path


def open_package(folder: Path, config: ServerConfig, reference: Path | None = None) -> Package:
    """Reads all but the weights. Raises Failure (ModelInvalid); OSError where the storage can't be read."""
    if not folder.is_dir():
        raise Failure("ModelInvalid", f"there is no folder {config.folder} in the storage; correct the path")
    if reference is not None and not reference.is_file():
        raise Failure(
            "ModelInvalid", f"there is no file {config.reference} in the storage; build the package anew"
        )
    _check_weights(folder, config)
    about = _read_about(folder)
    tokens = load_tokens(folder, about)
    bounds = (config.max_length, tokens.longest, _find_turn(about))
    limit = min(bound for bound in bounds if bound is not None)
    least = len(tokens.encode(""))
    if limit <= least:
        raise Failure(
            "ModelInvalid",
            f"maxLength {limit} has no room for a text: {least} tokens stand around each; raise it",
        )
    return Package(folder, config, about, tokens, limit, reference or folder / MODEL_REFERENCE)


def _find_turn(about: Any) -> int | None:
    """The tokens up to which a model's rotary positions are those of short texts, where it has others for long ones.

    transformers takes the others for all of a batch as soon as one text in it is longer, and some kinds for the batches
    after it, too: what a text is answered would depend on other texts.
    """
    config = about.get_text_config()
    told = getattr(config, "rope_parameters", None) or {}
    kinds = [
        kind for kind in (told, *told.values()) if isinstance(kind, dict)
    ]  # there may be one for each layer type
    turns = [k["original_max_position_embeddings"] for k in kinds if k.get("rope_type") == "longrope"]
    turns += [config.max_position_embeddings for k in kinds if k.get("rope_type") == "dynamic"]
    if not turns:
        return None
    log.info(
        "texts have at most %d tokens: batches of longer ones would change the answers to others", min(turns)
    )
    return int(min(turns))


def _check_weights(folder: Path, config: ServerConfig) -> None:
    check_pointers((p for p in folder.iterdir() if p.is_file()), config.folder)
    if config.runtime == "onnx":
        if not (folder / ONNX_FILE).is_file():
            raise Failure(
                "ModelInvalid",
                f"{config.folder} has no {ONNX_FILE}, which runtime onnx serves; build it, or use torch",
            )
        return
    found = [path.name for pattern in _PICKLES for path in sorted(folder.glob(pattern))]
    if found and not list(folder.glob("*.safetensors")):
        raise Failure(
            "ModelInvalid",
            f"{config.folder} has its weights as {shorten(found, 3)}, a format that can run code when it is read; only"
            f" safetensors is served: {_ADVICE}",
        )
    read_headers(folder, config.folder)


def _read_about(folder: Path) -> Any:
    from transformers import AutoConfig

    if not (folder / "config.json").is_file():
        raise Failure("ModelInvalid", f"{folder.name} has no config.json; {_ADVICE}")
    with boundary("ModelInvalid", "its config.json can't be read", _ADVICE):
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
