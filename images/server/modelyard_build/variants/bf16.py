"""bf16: the same weights in bfloat16."""

from __future__ import annotations

from pathlib import Path

from modelyard_models.failure import boundary
from modelyard_models.headers import read_headers

from modelyard_build.variants.variant import Plan, Variant, copy_rest, load

_STORED = "BF16"
_ASIDE = ("I64", "BOOL")  # of places and masks. Other whole numbers are weights, packed


class Bf16(Variant):
    """Loaded and saved by transformers, which knows the few weights that some families keep in float32."""

    runtime = "torch"

    def is_stored(self, folder: Path) -> bool:
        """By the files' headers."""
        dtypes = {header.dtype for header in read_headers(folder, folder.name).values()}
        return dtypes - set(_ASIDE) == {_STORED}

    def make(self, plan: Plan) -> None:
        """Its configuration says bfloat16 too."""
        _, model = load(plan, "bf16")
        copy_rest(plan.folder, plan.target)
        with boundary("CompressionFailed", "transformers can't save the model", "serve it as it is"):
            model.save_pretrained(plan.target)
