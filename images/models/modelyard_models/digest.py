"""Content address of a model: of its files without the ones that tell of it."""

from __future__ import annotations

from pathlib import Path

from modelyard.contract.layout import MODEL_MANIFEST, MODEL_REFERENCE

from modelyard_models.fetch import FILES
from modelyard_models.files import digest_of, hash_file, read_json, walk_files

CARD = "README.md"
_TELLING = (MODEL_MANIFEST, MODEL_REFERENCE, CARD, FILES)


def model_digest(folder: Path) -> str:
    """By the bytes that lie there."""
    return _digest({p.relative_to(folder).as_posix(): hash_file(p) for p in walk_files(folder)})


def fetched_digest(folder: Path) -> str:
    """Of a folder that fetch_model has made, which has its files' hashes beside them.

    Of any other they would say nothing: folders are copied, with their lists, and changed.
    """
    return _digest({entry["path"]: entry["sha256"] for entry in read_json(folder / FILES)["files"]})


def _digest(hashes: dict[str, str]) -> str:
    return digest_of([[path, sha] for path, sha in hashes.items() if Path(path).name not in _TELLING])
