"""Settings and folders for the tests of builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelyard.contract.build import BuildConfig
from modelyard_build.settings import Settings


def make_settings(root: Path, **config: Any) -> Settings:
    """Of a build whose storage is the claim `store`, at root/storage, and other claims at root/sources/pvc."""
    told = {
        "package": "packages/p", "storage": "pvc://store", "uri": "pvc://store/model", "methods": ["none"],
        "choose": "none", "gate": {"minAgreement": 0.98},
    } | config  # fmt: skip
    (root / "storage").mkdir(exist_ok=True)
    return Settings(BuildConfig.model_validate(told), root / "storage", root / "sources")
