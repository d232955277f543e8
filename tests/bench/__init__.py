"""Measurements: `python -m tests.bench [SECTION ...]`.

Ratios side by side in one run; absolute times move with the machine."""
