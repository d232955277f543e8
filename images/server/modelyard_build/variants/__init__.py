"""How variants are made of a model: a module each, and a line in the table."""

from __future__ import annotations

from modelyard.contract.build import Method

from modelyard_build.variants.bf16 import Bf16
from modelyard_build.variants.int8 import Int8
from modelyard_build.variants.variant import Variant

__all__ = ["VARIANTS", "Variant"]

VARIANTS: dict[Method, Variant] = {"bf16": Bf16(), "int8": Int8()}
