"""Content address of a trained model."""

from __future__ import annotations

from pathlib import Path

from modelyard.contract.layout import MODEL_MANIFEST, MODEL_REFERENCE

from modelyard_models.fetch import FILES
from modelyard_models.files import digest_of, hash_file, read_json, walk_files

CARD = "README.md"
_TELLING = (MODEL_MANIFEST, MODEL_REFERENCE, CARD)


def model_digest(folder: Path) -> str:
    """Digest of what the model is: its files without the ones that tell of it.

    A folder of the hub has its files' hashes beside them already.
    """
    listed = (read_json(folder / FILES) or {}).get("files")
    hashes = (
        {entry["path"]: entry["sha256"] for entry in listed}
        if listed
        else {p.relative_to(folder).as_posix(): hash_file(p) for p in walk_files(folder)}
    )
    return digest_of([[path, sha] for path, sha in hashes.items() if Path(path).name not in _TELLING])
