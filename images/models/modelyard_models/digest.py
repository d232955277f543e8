"""Content address of a trained model."""

from __future__ import annotations

from pathlib import Path

from modelyard.contract.layout import MODEL_MANIFEST, MODEL_REFERENCE

from modelyard_models.files import digest_of, hash_file, walk_files

CARD = "README.md"


def model_digest(folder: Path) -> str:
    """Digest of what the model is: its files without the ones that tell of it."""
    files = [p for p in walk_files(folder) if p.name not in (MODEL_MANIFEST, MODEL_REFERENCE, CARD)]
    return digest_of([[p.relative_to(folder).as_posix(), hash_file(p)] for p in files])
