"""A base model's generation settings, which transformers reads as they are and refuses to write again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from modelyard_models.failure import Failure

_FILE = "generation_config.json"
_ISSUE = re.compile(r"^- `(\w+)`:", re.MULTILINE)  # transformers names what it objects to so, a line each
_SAMPLING = frozenset(
    ("temperature", "top_p", "min_p", "top_h", "typical_p", "top_k", "epsilon_cutoff", "eta_cutoff")
)


def check_generation(folder: Path) -> None:
    """Refuses generation settings that no trained model could be saved with. Raises Failure (ModelInvalid)."""
    from transformers import GenerationConfig

    if not (folder / _FILE).is_file():
        return
    try:
        settle_generation(GenerationConfig.from_pretrained(folder, local_files_only=True))
    except Exception as error:  # whatever a foreign file makes it raise
        words = " ".join(str(error).split())
        raise Failure(
            "ModelInvalid",
            f"transformers refuses the model's {_FILE} ({words[:300]}), and so could not save the trained model;"
            " correct the file, or remove it",
        ) from error


def settle_generation(settings: Any) -> None:
    """Makes settings such as transformers writes, in place; `settings` is a GenerationConfig, or None.

    Values for sampling without do_sample (Vicuna, the first Llama 2) mean that it is sampled. What else has no
    effect is taken out. Raises ValueError for what is wrong in itself.
    """
    if settings is None:
        return
    for _ in range(2):  # with do_sample set, other values count
        try:
            settings.validate(strict=True)
        except ValueError as error:
            idle = set(_ISSUE.findall(str(error)))
            if not idle:
                raise
            if idle & _SAMPLING:
                settings.do_sample = True
            for name in idle - _SAMPLING:
                setattr(settings, name, None)
    settings.validate(strict=True)
