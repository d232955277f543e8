"""A model's folder, looked at before anything of it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.contract.layout import MODEL_REFERENCE
from modelyard.contract.server import ServerConfig
from modelyard_models.failure import boundary, shorten
from modelyard_models.headers import check_pointers, read_headers

from modelyard_server.failure import Failure
from modelyard_server.package.tokens import Tokens, load_tokens

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
    limit = min(bound for bound in (config.max_length, tokens.longest) if bound is not None)
    least = len(tokens.encode(""))
    if limit <= least:
        raise Failure(
            "ModelInvalid",
            f"maxLength {limit} has no room for a text: {least} tokens stand around each; raise it",
        )
    return Package(folder, config, about, tokens, limit, reference or folder / MODEL_REFERENCE)


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
